//! The macro that defines types of options.

/// Defines a struct of options. Each field has its default next to it: the struct implements [`Default`] with them.
///
/// ```
/// cloakroom_base::options! {
///     /// The limits of a listener.
///     #[derive(Debug)]
///     pub struct ListenerLimits {
///         /// The largest number of connections.
///         pub connections_max: usize = 4096,
///     }
/// }
/// assert_eq!(ListenerLimits::default().connections_max, 4096);
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$attribute:meta])*
        pub struct $name:ident {
            $($(#[$field_attribute:meta])* pub $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[$attribute])*
        pub struct $name {
            $($(#[$field_attribute])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($field: $default,)*
                }
            }
        }
    };
}
