//! Cookies in HTTP headers. For the session's cookie: signing and verifying its value, removing it from a request, and writing
//! `Set-Cookie`. For an application's own cookies: [`CookieJar`].
//!
//! This module does not depend on stores, guests or policy. Whether a cookie is sent at all is decided elsewhere.

mod duplicates;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod header;
mod jar;
mod key_ring;
mod name;
mod pair;
mod presented;
mod value;

pub use duplicates::{DuplicateCookies, RequestTarget, duplicate_places};
pub use header::{expire_cookie, is_valid_domain, is_valid_path, path_matches, set_cookie};
pub use jar::{
    CookieJar, CookieJarKeys, CookieValue, CookieWriteError, IdComparison, RequestCookie,
};
pub use key_ring::{KeyRing, Secret, UnusableSecrets};
pub use name::{is_cookie_named, is_valid_name};
pub use presented::{CookieResolution, PresentedCookies, take_from};
