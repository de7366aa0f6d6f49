//! TLS: the name is checked, and a connection is reused like a plain one.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::super::tls::tls_config_of;
use super::*;

/// Starts a server for `api.test` with a self-signed certificate, and creates a guest that trusts it.
async fn start() -> (Server, Arc<GuestPool>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["api.test".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth();
    let config = config
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server {
        port: listener.local_addr().unwrap().port(),
        connections: Arc::default(),
        requests: Arc::default(),
    };
    let (connections, requests) = (
        Arc::clone(&server.connections),
        Arc::clone(&server.requests),
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            let (acceptor, requests) = (acceptor.clone(), Arc::clone(&requests));
            tokio::spawn(async move {
                let stream = acceptor.accept(stream).await?;
                serve(stream, &[OK; 9], requests).await
            });
        }
    });
    let guest = guest().with_tls(tls_config_of(Arc::new(roots)));
    (server, guest)
}

fn destination(host: NormalizedHost, port: u16) -> Destination {
    Destination {
        tls: true,
        host,
        ..super::destination(port)
    }
}

#[tokio::test]
async fn one_handshake_serves_many_requests() {
    let (server, guest) = start().await;
    for sent in 1..=3 {
        let to = destination(NormalizedHost::Name("api.test".to_owned()), server.port);
        let answer = send_with(&guest, to, Method::GET, PATIENCE).await.unwrap();
        assert_eq!(text(answer).await.unwrap(), "ok");
        eventually("idle", || guest.usage().idle == 1).await;
        assert_eq!((server.connections(), server.requests()), (1, sent));
    }
}

#[tokio::test]
async fn a_server_with_another_name_is_refused() {
    let (server, guest) = start().await;
    let hosts = [
        NormalizedHost::Name("other.test".to_owned()),
        NormalizedHost::Address("127.0.0.1".parse().unwrap()),
    ];
    for host in hosts {
        let refused = send_with(
            &guest,
            destination(host, server.port),
            Method::GET,
            PATIENCE,
        )
        .await;
        assert!(
            matches!(
                refused,
                Err(ExchangeError::Connect(OutboundConnectError::Failed(
                    Error::Tls(_)
                )))
            ),
            "{refused:?}"
        );
    }
    eventually("closed", || guest.open() == 0).await;
    assert_eq!(server.requests(), 0);
}
