//! Signs texts and verifies them as Express's cookie-signature does: `s:<text>.<HMAC-SHA256>`. A session's id is one of them.
//! Knows no headers.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::zeroize::Zeroize as _;
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

use super::value::{decode, encode, unquote};
use crate::limits::SESSION_ID_BYTES_MAX;
use crate::record::SessionId;

/// How a signed value begins.
pub(super) const SIGNED: &str = "s:";
/// A 32-byte signature in base64 without padding.
const SIGNATURE_BYTES: usize = 43;
/// The longest value worth a look, in bytes: quotes, `s:`, the longest id, dot and signature, every byte percent-encoded.
const VALUE_BYTES_MAX: usize = 2 + 3 * (2 + SESSION_ID_BYTES_MAX + 1 + SIGNATURE_BYTES);

/// A signing secret: the UTF-8 bytes of the string an Express app is given. Its memory is overwritten when it goes.
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Takes over the bytes and overwrites the vector they came in.
    pub fn new(mut bytes: Vec<u8>) -> Self {
        // Boxing the vector itself could move it and leave its old memory behind.
        let secret: Box<[u8]> = Box::from(bytes.as_slice());
        bytes.zeroize();
        Self(secret.into())
    }

    /// How long the secret is, in bytes.
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

/// The secrets of one cookie name: the first signs, all verify.
///
/// A cookie that an older secret signed stays valid as long as that secret is listed; nothing re-issues it.
pub struct KeyRing {
    secrets: Vec<Secret>,
    fingerprint_key: Secret,
}

/// Secrets that nothing may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnusableSecrets {
    /// None at all.
    #[error("no cookie secret is given")]
    None,
    /// One without a byte: everybody could sign with it.
    #[error("cookie secret {number} is empty")]
    Empty {
        /// Which one, counted from 1.
        number: usize,
    },
}

impl KeyRing {
    /// A ring of these secrets, the signing one first. Whether they are strong enough is for the configuration to judge.
    ///
    /// # Errors
    /// When there is none or one of them is empty.
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

    /// The cookie value for a session, percent-encoded: `s%3A...`. The same for the same id, always.
    pub fn sign(&self, id: &SessionId) -> String {
        encode(&self.sign_text(id.as_str()))
    }

    /// The id that a cookie's value vouches for. `value` is as found in the `Cookie` header: percent-encoded, plain, or either
    /// in double quotes. `None` for everything that no listed secret has signed exactly so.
    ///
    /// The comparison takes the same time wherever a forged signature differs.
    pub fn verify(&self, value: &str) -> Option<SessionId> {
        if value.len() > VALUE_BYTES_MAX {
            return None;
        }
        SessionId::from_foreign(self.verify_text(&decode(unquote(value)))?)
    }

    /// `s:<text>.<signature>`, not yet encoded.
    pub(super) fn sign_text(&self, text: &str) -> String {
        let mac = self.secrets[0].mac().chain_update(text);
        let signature = STANDARD_NO_PAD.encode(mac.finalize().into_bytes());
        format!("{SIGNED}{text}.{signature}")
    }

    /// The text that `signed`, decoded, vouches for; as [`KeyRing::verify`] otherwise.
    pub(super) fn verify_text<'a>(&self, signed: &'a str) -> Option<&'a str> {
        let (text, signature) = signed.strip_prefix(SIGNED)?.rsplit_once('.')?;
        if signature.len() != SIGNATURE_BYTES {
            return None;
        }
        // Refuses padding, the URL-safe alphabet and loose bits at the end, so that one signature has one spelling.
        let signature = STANDARD_NO_PAD.decode(signature).ok()?;
        let is_signed_with = |secret: &Secret| {
            let mac = secret.mac().chain_update(text);
            mac.verify_slice(&signature).is_ok()
        };
        self.secrets.iter().any(is_signed_with).then_some(text)
    }

    /// Whether a secret of this ring is one of the other's, too: then what the one signs the other believes.
    pub(super) fn shares_a_secret_with(&self, other: &Self) -> bool {
        let is_others = |own: &Secret| {
            let mut others = other.secrets.iter();
            others.any(|secret| secret.0.expose_secret() == own.0.expose_secret())
        };
        self.secrets.iter().any(is_others)
    }

    /// A name for the session that is no credential: 128 bits in hex, by a key derived for nothing else. It stays the same
    /// as long as the id and the first secret do.
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

/// A key for one purpose (HKDF-SHA256, RFC 5869, one block). Here the secret is HMAC's *message*, so that no signature
/// over whatever id could ever be the derived key.
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
