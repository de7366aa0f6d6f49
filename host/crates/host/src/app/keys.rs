//! The keys for the session cookie and for the guests' own cookies, created from the configured secrets.

use std::sync::Arc;

use crate::config::{Config, ConfigFault, SecretSource};
use cloakroom_runtime::Services;
use cloakroom_session::cookie::{CookieJarKeys, IdComparison, KeyRing, Secret};

/// Both key rings. They are the same ring if `cookies.secrets` is not configured.
#[derive(Clone, Debug)]
pub(crate) struct SigningKeys {
    pub(crate) session: Arc<KeyRing>,
    cookies: Arc<KeyRing>,
}

impl SigningKeys {
    /// Reads the secrets and creates the keys. If `present` is given, the session key ring is kept when its secret source
    /// equals the one in the old configuration: a random secret would otherwise change at each reload.
    ///
    /// # Errors
    /// Returns a fault for the configuration key that has no usable secret.
    pub(crate) fn of(
        config: &Config,
        present: Option<(&Config, &Self)>,
    ) -> Result<Self, ConfigFault> {
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

    /// Creates keys with a random secret, for a host that no browser reaches.
    ///
    /// # Errors
    /// Returns the error of the system's source of randomness.
    pub(crate) fn random() -> Result<Self, String> {
        let mut secret = vec![0; 32];
        getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
        let ring = KeyRing::new(vec![Secret::new(secret)]).map_err(|error| error.to_string())?;
        let ring = Arc::new(ring);
        Ok(Self {
            session: Arc::clone(&ring),
            cookies: ring,
        })
    }

    /// Returns the keys for the guests' own cookies, for a store that compares ids in the given way.
    pub(crate) fn of_jar(&self, ids: IdComparison) -> CookieJarKeys {
        CookieJarKeys::new(Arc::clone(&self.cookies), &self.session, ids)
    }

    /// Makes a running host sign and verify cookies with these keys.
    pub(crate) fn take_over(&self, services: &Services, ids: IdComparison) {
        services.sessions.replace_keys(Arc::clone(&self.session));
        services.jar.replace_keys(self.of_jar(ids));
    }
}

fn ring(key: &str, source: &SecretSource) -> Result<Arc<KeyRing>, ConfigFault> {
    let secrets = source.obtain()?.into_iter().map(Secret::new).collect();
    let ring = KeyRing::new(secrets)
        .map_err(|error| ConfigFault::new(key, error.to_string(), "give at least one secret"))?;
    Ok(Arc::new(ring))
}
