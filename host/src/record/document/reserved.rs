//! The keys of a row that are not the guests'.

/// Whether a guest may not use this key: `cookie`, what express-session's `Session` has, and what every JavaScript object
/// has. Express drops such keys on load and rewrites the row without them.
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
