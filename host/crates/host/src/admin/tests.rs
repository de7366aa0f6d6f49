//! Tests of the interface before it is opened. `tests/e2e/admin.rs` tests it with a running host.

use bytes::Bytes;
use cloakroom_base::quota::ConnectionOutbox;
use http_body_util::{BodyExt as _, Empty};

use super::*;

fn admin() -> Arc<AdminServer> {
    AdminServer::new(AdminOptions {
        token: None,
        listen: "127.0.0.1:3001".parse().unwrap(),
    })
}

async fn call(admin: &Arc<AdminServer>, method: Method, path: &str) -> (Response<()>, String) {
    let request = Request::builder().method(method).uri(path);
    let request = request.header("host", "localhost:3001");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let ends = ConnectionEnds {
        peer,
        local: admin.options.listen,
        share: admin.share(peer.ip()),
        outbox: ConnectionOutbox::new(0),
    };
    let response = Arc::clone(admin).answer(request, ends).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(head, ()), text)
}

#[tokio::test]
async fn a_host_that_does_not_serve_yet_is_healthy_but_not_ready() {
    let admin = admin();
    for (path, status) in [
        ("/healthz", 200),
        ("/readyz", 503),
        ("/guests", 503),
        ("/metrics", 503),
    ] {
        let (head, text) = call(&admin, Method::GET, path).await;
        assert_eq!(head.status().as_u16(), status, "{path}: {text}");
        assert_eq!(head.headers()["content-type"], "application/json", "{path}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_an_unknown_method_405_with_allow() {
    let admin = admin();
    for path in [
        "/",
        "/guest",
        "/guests/",
        "/guests/a/b",
        "/guests/a/rollback/x",
        "//guests",
    ] {
        let (head, text) = call(&admin, Method::GET, path).await;
        assert_eq!(head.status().as_u16(), 404, "{path}");
        assert!(text.contains("\"error\""), "{text}");
    }
    for (method, path, allow) in [
        (Method::POST, "/guests", "GET, HEAD"),
        (Method::DELETE, "/guests/a", "GET, HEAD, PUT"),
        (Method::GET, "/guests/a/rollback", "POST"),
        (Method::PUT, "/readyz", "GET, HEAD"),
    ] {
        let (head, _) = call(&admin, method, path).await;
        assert_eq!(head.status().as_u16(), 405, "{path}");
        assert_eq!(head.headers()["allow"], allow);
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let admin = admin();
    let (head, text) = call(&admin, Method::HEAD, "/healthz").await;
    assert_eq!((head.status().as_u16(), text.as_str()), (200, ""));
    let (_, text) = call(&admin, Method::GET, "/healthz").await;
    assert_eq!(head.headers()["content-length"], text.len().to_string());
}
