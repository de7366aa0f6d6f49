//! The start of the store: its servers, the encryption of its connections, and its error messages.

use std::time::{Duration, Instant};

use cloakroom_store_mysql::{
    CertificateCheck, ConnectErrorClass, MysqlConnectError, MysqlOptions, MysqlStore, MysqlTls,
};
use cloakroom_tests::chaos_proxy::ChaosProxy;
use cloakroom_tests::mariadb::Mariadb;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use secrecy::SecretString;

use super::{connect, created, options};

const DATA: &str = r#"{"cookie":{}}"#;

async fn refusal(options: &MysqlOptions) -> MysqlConnectError {
    let refused = MysqlStore::connect(options).await;
    let error = refused.expect_err("this server cannot be used");
    let password = (options.password.as_ref()).map(secrecy::ExposeSecret::expose_secret);
    let text = format!("{error} {error:?}");
    assert!(password.is_none_or(|password| !text.contains(password)));
    error
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_once() {
    let database = Mariadb::shared().await.fresh_database().await;
    let mut options = options(&database.url);
    options.password = Some(SecretString::from("wr0ng-pa55word"));
    let started_at = Instant::now();
    let error = refusal(&options).await;
    assert_eq!(error.culprit, ConnectErrorClass::Account);
    assert!(error.detail.contains("Access denied"), "{error}");
    assert!(started_at.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_database_that_is_not_there_is_refused_at_once() {
    let database = Mariadb::shared().await.fresh_database().await;
    let mut options = options(&database.url);
    options.database = "nowhere".to_owned();
    let error = refusal(&options).await;
    assert_eq!(error.culprit, ConnectErrorClass::Database);
    assert!(error.detail.contains("nowhere"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for_then_named() {
    let database = Mariadb::shared().await.fresh_database().await;
    let proxy = ChaosProxy::to_port(database.port).await;
    let mut options = options(&database.url_through(proxy.port()));
    proxy.refuse().await;
    options.start_timeout = Duration::from_millis(500);
    let started_at = Instant::now();
    let error = refusal(&options).await;
    assert_eq!(error.culprit, ConnectErrorClass::Reach);
    assert!(
        error
            .detail
            .contains(&format!("127.0.0.1:{}", proxy.port())),
        "{error}"
    );
    assert!((500..3_000).contains(&started_at.elapsed().as_millis()));

    options.start_timeout = Duration::from_secs(30);
    let (store, ()) = tokio::join!(connect(&options), proxy.forward());
    created(&store, DATA).await;
}

#[tokio::test]
async fn nothing_that_is_printed_shows_the_password() {
    let database = Mariadb::shared().await.fresh_database().await;
    let options = options(&database.url);
    let store = connect(&options).await;
    let printed = format!("{options:?} {options:#?} {store:?} {store:#?}");
    assert!(printed.contains("127.0.0.1"), "{printed}");
    assert!(!printed.contains(&database.password), "{printed}");
}

#[tokio::test]
async fn a_tls_link_verifies_authority_and_name() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_file = write("ca.pem", authority.pem());
    let foreign_ca_file = write("foreign.pem", self::authority().pem());
    let certificate = write("server.pem", certificate.pem());
    let key = write("server.key", key.serialize_pem());
    let mariadb = Mariadb::start_with(&[
        &format!("--ssl-cert={}", certificate.display()),
        &format!("--ssl-key={}", key.display()),
        "--require-secure-transport=ON",
    ])
    .await;
    let database = mariadb.fresh_database().await;
    let named = |host: &str, ca_file: Option<&std::path::Path>| {
        let mut options = options(&database.url);
        options.hosts[0].name = host.to_owned();
        options.tls = MysqlTls::Required;
        options.ca_file = ca_file.map(Into::into);
        options.start_timeout = Duration::ZERO;
        options
    };

    let store = connect(&named("localhost", Some(&ca_file))).await;
    created(&store, DATA).await;

    for (host, ca_file, expected) in [
        ("127.0.0.1", Some(&*ca_file), "not valid for name"),
        ("localhost", Some(&*foreign_ca_file), "BadSignature"),
        ("localhost", None, "UnknownIssuer"),
    ] {
        let error = refusal(&named(host, ca_file)).await;
        assert_eq!(error.culprit, ConnectErrorClass::Tls, "{error}");
        assert!(error.detail.contains(expected), "{error}");
    }
    // Only the authority is verified: the host's name may differ from the name in the certificate.
    let by_authority = |host: &str, ca_file: &std::path::Path| MysqlOptions {
        verify: CertificateCheck::Ca,
        ..named(host, Some(ca_file))
    };
    let store = connect(&by_authority("127.0.0.1", &ca_file)).await;
    created(&store, DATA).await;
    for host in ["127.0.0.1", "localhost"] {
        let error = refusal(&by_authority(host, &foreign_ca_file)).await;
        assert_eq!(error.culprit, ConnectErrorClass::Tls, "{error}");
    }
    let plain = MysqlOptions {
        tls: MysqlTls::Off,
        ..named("localhost", None)
    };
    let error = refusal(&plain).await;
    // The code depends on the step of the handshake in which the server checks the encryption.
    assert!(
        ["3159", "1045"]
            .iter()
            .any(|code| error.detail.contains(code)),
        "{error}"
    );
}

#[tokio::test]
async fn a_certificate_that_names_no_host_as_mysql_makes_them_serves_by_its_authority() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca_file = write("ca.pem", authority.pem());
    let certificate = write("server.pem", certificate.pem());
    let key = write("server.key", key.serialize_pem());
    let mariadb = Mariadb::start_with(&[
        &format!("--ssl-cert={}", certificate.display()),
        &format!("--ssl-key={}", key.display()),
    ])
    .await;
    let database = mariadb.fresh_database().await;
    let verified = |verify: CertificateCheck| {
        let mut options = options(&database.url);
        options.tls = MysqlTls::Required;
        options.ca_file = Some(ca_file.clone());
        options.verify = verify;
        options.start_timeout = Duration::ZERO;
        options
    };
    created(&connect(&verified(CertificateCheck::Ca)).await, DATA).await;
    let error = refusal(&verified(CertificateCheck::Full)).await;
    assert_eq!(error.culprit, ConnectErrorClass::Tls, "{error}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let database = Mariadb::shared().await.fresh_database().await;
    let mut options = options(&database.url);
    options.tls = MysqlTls::Required;
    let error = refusal(&options).await;
    assert_eq!(error.culprit, ConnectErrorClass::Tls);
    assert!(error.detail.contains("TLS is required"), "{error}");
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}
