//! `[[route]]`: which requests go to which guest.

/// One `[[route]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSettings {
    /// The path in matchit's syntax: `/user/{id}`, `/files/{*rest}`.
    pub path: String,
    /// The methods it answers, in capitals; empty for all.
    pub methods: Vec<String>,
    /// The host it answers for; `None` for all.
    pub host: Option<String>,
    /// The name of its guest.
    pub guest: String,
}
