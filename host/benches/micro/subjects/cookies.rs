//! A key ring, and a cookie that it has signed.

use cloakroom::cookie::{KeyRing, Secret};
use cloakroom::record::SessionId;

/// Always the same id: a benchmark must not depend on what was drawn.
const ID: &str = "q3J9xWc0Zt7mKfVbN2sRgYhLpD5uE8aT";

/// See the module.
pub(crate) struct Signed {
    pub(crate) keys: KeyRing,
    pub(crate) id: SessionId,
    /// As in the `Cookie` header.
    pub(crate) value: String,
}

impl Signed {
    pub(crate) fn new() -> Self {
        let secret = Secret::new(b"a secret of more than thirty-two bytes".to_vec());
        let keys = KeyRing::new(vec![secret]).expect("a secret");
        let id = SessionId::from_foreign(ID).expect("an id that can be signed");
        let value = keys.sign(&id);
        Self { keys, id, value }
    }
}
