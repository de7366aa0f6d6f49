//! A random secret, for a host that is not given one. Knows no key of the configuration.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Minimum length of a secret, in bytes. It is the output length of HMAC-SHA256, for which the secret is the key.
pub(crate) const SECRET_BYTES_MIN: usize = 32;

/// Returns 32 random bytes as 43 characters of base64url.
pub(crate) fn random_secret() -> Vec<u8> {
    let mut bytes = [0; SECRET_BYTES_MIN];
    getrandom::fill(&mut bytes).expect("the operating system gives random numbers");
    URL_SAFE_NO_PAD.encode(bytes).into_bytes()
}
