//! The TLS configuration of outgoing connections.

use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};

/// Returns a TLS configuration that trusts the root certificates of browsers.
pub(crate) fn tls_config() -> ClientConfig {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = || {
        Arc::new(RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        })
    };
    tls_config_of(Arc::clone(ROOTS.get_or_init(roots)))
}

pub(crate) fn tls_config_of(roots: Arc<RootCertStore>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("the provider has what the default versions need");
    let mut config = versions.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}
