//! The keys of a row that guests cannot use.

/// Returns whether a guest may not use this key: `cookie`, the members of express-session's `Session`, and the members of every
/// JavaScript object. Express drops such keys on load and rewrites the row without them.
pub fn is_reserved_key(key: &str) -> bool {
    matches!(
        key,
        "cookie"
            | "id"
            | "req"
            | "touch"
            | "resetMaxAge"
            | "save"
            | "reload"
            | "destroy"
            | "regenerate"
            | "constructor"
            | "hasOwnProperty"
            | "isPrototypeOf"
            | "propertyIsEnumerable"
            | "toLocaleString"
            | "toString"
            | "valueOf"
            | "__defineGetter__"
            | "__defineSetter__"
            | "__lookupGetter__"
            | "__lookupSetter__"
            | "__proto__"
    )
}
