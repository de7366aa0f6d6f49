//! `[cookies]`: the guests' own signed cookies.

use super::secrets::{self, SecretSource};
use crate::config_reader::Section;

/// The `[cookies]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiesSettings {
    /// The secrets that sign the cookies. With `None`, the session's secrets are used.
    pub secrets: Option<SecretSource>,
}

/// Reads `[cookies]`.
pub(crate) fn read(mut section: Section<'_>) -> CookiesSettings {
    CookiesSettings {
        secrets: secrets::given(&mut section).map(SecretSource::Given),
    }
}
