//! Signatures in the format of Express's cookie-signature: `s:<text>.<HMAC-SHA256>`. Session IDs and other texts are signed
//! like this. This module does not depend on headers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

use super::value::{decode, encode, unquote};
use crate::record::SessionId;
use cloakroom_base::limits::SESSION_ID_BYTES_MAX;

/// Prefix of a signed value.
pub(crate) const SIGNED: &str = "s:";
/// Length of a 32-byte signature in base64 without padding.
const SIGNATURE_BYTES: usize = 43;
/// The longest value that is verified, in bytes: quotes, `s:`, the longest ID, dot and signature, with every byte
/// percent-encoded.
const VALUE_BYTES_MAX: usize = 2 + 3 * (2 + SESSION_ID_BYTES_MAX + 1 + SIGNATURE_BYTES);

/// A signing secret: the UTF-8 bytes of the string that an Express app is given. Its memory is overwritten on drop.
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Copies the bytes and overwrites the given vector.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        // Boxing the vector itself could move it and leave its old memory behind.
        let secret: Box<[u8]> = Box::from(bytes.as_slice());
        bytes.zeroize();
        Self(secret.into())
    }

    /// Returns the length of the secret, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.0.expose_secret().len()
    }

    fn mac(&self) -> Hmac<Sha256> {
        Hmac::new_from_slice(self.0.expose_secret()).expect("HMAC takes keys of any length")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The secrets of one cookie name: the first signs, all of them verify.
///
/// A cookie signed with an older secret stays valid while that secret is listed. It is not re-signed.
pub struct KeyRing {
    secrets: Vec<Secret>,
    fingerprint_key: Secret,
}

/// Error returned when secrets cannot be used for signing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSecrets {
    /// There is no secret.
    #[error("no cookie secret is given")]
    None,
    /// A secret is empty, so anyone could sign with it.
    #[error("cookie secret {number} is empty")]
    Empty {
        /// The number of the secret, counted from 1.
        number: usize,
    },
}

impl KeyRing {
    /// Creates a ring of these secrets, the signing one first. Their strength must be checked by the configuration.
    ///
    /// # Errors
    /// Returns an error if there is no secret or one of them is empty.
    pub fn new(secrets: Vec<Secret>) -> Result<Self, UnusableSecrets> {
        if let Some(at) = secrets.iter().position(|s| s.len_bytes() == 0) {
            return Err(UnusableSecrets::Empty { number: at + 1 });
        }
        let first = secrets.first().ok_or(UnusableSecrets::None)?;
        let fingerprint_key = derive_key(first, b"session fingerprint");
        Ok(Self {
            secrets,
            fingerprint_key,
        })
    }

    /// Returns the percent-encoded cookie value for a session: `s%3A...`. It is always the same for the same ID.
    pub fn sign(&self, id: &SessionId) -> String {
        encode(&self.sign_text(id.as_str()))
    }

    /// Verifies a cookie's value and returns the ID in it. `value` is as found in the `Cookie` header: percent-encoded or
    /// plain, and possibly in double quotes. Returns `None` unless a listed secret has signed exactly this value.
    ///
    /// The comparison is constant-time: its duration does not reveal where a forged signature differs.
    pub fn verify(&self, value: &str) -> Option<SessionId> {
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        SessionId::from_foreign(self.verify_text(&decode(unquote(value)))?)
    }

    /// Returns `s:<text>.<signature>`, not percent-encoded.
    pub(crate) fn sign_text(&self, text: &str) -> String {
        let mac = self.secrets[0].mac().chain_update(text);
        let signature = STANDARD_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{SIGNED}{text}.{signature}")
    }

    /// Verifies the decoded value `signed` and returns its text. Otherwise like [`KeyRing::verify`].
    pub(crate) fn verify_text<'a>(&self, signed: &'a str) -> Option<&'a str> {
        let (text, signature) = signed.strip_prefix(SIGNED)?.rsplit_once('.')?;
        if signature.len() != SIGNATURE_BYTES {
            return None;
        }
        // Decoding refuses padding, the URL-safe alphabet and loose bits at the end, so that each signature has only one
        // spelling.
        let signature = STANDARD_NO_PAD.decode(signature).ok()?;
        let is_signed_with = |secret: &Secret| {
            let mac = secret.mac().chain_update(text);
            mac.verify_slice(&signature).is_ok()
        };
        self.secrets.iter().any(is_signed_with).then_some(text)
    }

    /// Returns whether the two rings have a common secret. If so, each accepts values that the other signs with it.
    pub(crate) fn shares_a_secret_with(&self, other: &Self) -> bool {
        let is_others = |own: &Secret| {
            let mut others = other.secrets.iter();
            others.any(|secret| secret.0.expose_secret() == own.0.expose_secret())
        };
        self.secrets.iter().any(is_others)
    }

    /// Returns an identifier of the session that is not a credential: 128 bits in hex, made with a key that is derived only for
    /// this. It stays the same while the ID and the first secret do.
    pub fn fingerprint(&self, id: &SessionId) -> String {
        let mac = self.fingerprint_key.mac().chain_update(id.as_str());
        let bytes = mac.finalize().into_bytes();
        bytes[..16].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("secrets", &self.secrets.len())
            .finish_non_exhaustive()
    }
}

/// Derives a key for one purpose (HKDF-SHA256, RFC 5869, one block). The secret is used here as the *message* of the HMAC, so
/// that no signature of any ID can be equal to the derived key.
fn derive_key(secret: &Secret, purpose: &[u8]) -> Secret {
    hkdf(b"cloakroom", secret, purpose)
}

fn hkdf(salt: &[u8], secret: &Secret, info: &[u8]) -> Secret {
    let extract = Secret::new(salt.to_vec()).mac();
    let extracted = extract.chain_update(secret.0.expose_secret());
    let pseudorandom_key = Secret::new(extracted.finalize().into_bytes().to_vec());
    let expand = pseudorandom_key.mac().chain_update(info).chain_update([1]);
    Secret::new(expand.finalize().into_bytes().to_vec())
}

#[cfg(test)]
mod tests;
