//! The keys of the session's cookie and of the guests' own, from the configuration's secrets.

use std::sync::Arc;

use crate::config::{Config, Fault, SecretSource};
use crate::cookie::{IdComparison, Jar, JarKeys, KeyRing, Secret};
use crate::session::SessionManager;

/// Both key rings; the same one where the guests' cookies have no secrets of their own.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) session: Arc<KeyRing>,
    cookies: Arc<KeyRing>,
}

impl Keys {
    /// Obtains the secrets. Keeps of `present`, made from the configuration `old`, what comes from the same secrets: a random
    /// one would be another one the next time.
    ///
    /// # Errors
    /// A fault of the key that has no usable secret.
    pub(super) fn of(config: &Config, present: Option<(&Config, &Self)>) -> Result<Self, Fault> {
        let (session, cookies) = (&config.session.secrets, &config.cookies.secrets);
        let session = match present {
            Some((old, keys)) if old.session.secrets == *session => Arc::clone(&keys.session),
            _ => ring("session.secrets", session)?,
        };
        let cookies = match cookies {
            None => Arc::clone(&session),
            Some(secrets) => ring("cookies.secrets", secrets)?,
        };
        Ok(Self { session, cookies })
    }

    /// Those of the guests' own cookies, on a host whose store compares ids like this.
    pub(super) fn of_jar(&self, ids: IdComparison) -> JarKeys {
        JarKeys::new(Arc::clone(&self.cookies), &self.session, ids)
    }

    /// Has a running host sign and verify with these.
    pub(super) fn take_over(&self, sessions: &SessionManager, jar: &Jar, ids: IdComparison) {
        sessions.replace_keys(Arc::clone(&self.session));
        jar.replace_keys(self.of_jar(ids));
    }
}

fn ring(key: &str, source: &SecretSource) -> Result<Arc<KeyRing>, Fault> {
    let secrets = source.obtain()?.into_iter().map(Secret::new).collect();
    let ring = KeyRing::new(secrets)
        .map_err(|error| Fault::new(key, error.to_string(), "give at least one secret"))?;
    Ok(Arc::new(ring))
}
