//! A key ring, and a cookie that it has signed.

use cloakroom_session::cookie::{KeyRing, Secret};
use cloakroom_session::record::SessionId;

/// A fixed id, because the results must not depend on a random one.
const ID: &str = "q3J9xWc0Zt7mKfVbN2sRgYhLpD5uE8aT";

/// A key ring, and an id that it has signed.
pub(crate) struct Signed {
    pub(crate) keys: KeyRing,
    pub(crate) id: SessionId,
    /// The signed value, as in the `Cookie` header.
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
