//! Tests of the head that a guest sees, and of the number that identifies a visitor. No guest runs.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::COOKIE;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use parking_lot::Mutex;

use super::*;
use crate::handler::{HookResponse, Options, ProxyTrust, RequestHook, RoutedGuests};
use crate::route::{Route, RouteTable, Target};
use cloakroom_base::clock::Clock;
use cloakroom_base::limits;
use cloakroom_base::quota::{ConnectionOutbox, QuotaTotals, Quotas};
use cloakroom_runtime::{Deployments, GuestGrants, GuestSettings, Services};
use cloakroom_server::{ConnectionEnds, Service as _};
use cloakroom_session::cookie::{CookieJar, CookieJarKeys, IdComparison, KeyRing, Secret};
use cloakroom_session::store::memory::MemoryStore;
use cloakroom_session::{SessionGrant, SessionManager, SessionOptions};

const COOKIE_NAME: &str = "connect.sid";

fn request(cookies: &str) -> Request<Empty<Bytes>> {
    let request = Request::get("/").header("host", "shop.example");
    let request = request.header(COOKIE, cookies).body(Empty::new());
    request.expect("a request")
}

fn guest_head(cookies: &str) -> GuestHead {
    GuestHead::new(request(cookies).into_parts().0, COOKIE_NAME)
}

#[test]
fn the_session_cookie_is_removed_and_the_others_are_kept() {
    let head = guest_head("a=1; connect.sid=s%3Ax.y; b=2");
    assert_eq!(head.parts().headers.get(COOKIE).unwrap(), "a=1; b=2");
    assert!(!head.cookies.is_empty());
    let head = guest_head("connect.sid=s%3Ax.y");
    assert!(!head.parts().headers.contains_key(COOKIE));
}

/// All hosts of a deployment must compute the same number, so a release must not change it.
#[test]
fn the_number_of_a_visitor_is_the_same_on_every_host() {
    let (none, cookies) = (
        PresentedCookies::default(),
        guest_head("connect.sid=x").cookies,
    );
    for (client, number) in [
        ("203.0.113.9", 0xffff_cb00_7109),
        ("2001:db8::1", 0x2001_0db8_0000_0001),
    ] {
        let client = client.parse().unwrap();
        assert_eq!(visitor(&none, client), number, "{client}");
        assert_eq!(visitor(&cookies, client), cookies.fixed_hash());
    }
}

/// Records the cookies of the heads that it sees, and answers in place of the guest.
#[derive(Debug, Default)]
struct CookieRecorder(Mutex<Vec<String>>);

impl RequestHook for CookieRecorder {
    fn on_request(&self, _: &str, _: &Method, _: &Uri) {}

    fn answers(&self, _: &Deployment, _: &Route, head: &request::Parts) -> Option<HookResponse> {
        let cookies = head.headers.get_all(COOKIE).iter();
        let cookies = cookies.map(|value| value.to_str().unwrap().to_owned());
        self.0.lock().extend(cookies);
        Some(HookResponse {
            response: Response::new("instead".to_owned()),
            kind: "test",
        })
    }
}

/// Returns a handler with a guest that has no version.
fn handler(hook: Arc<CookieRecorder>) -> Arc<Handler> {
    let route = Route {
        path: "/".to_owned(),
        methods: Vec::new(),
        host: None,
        target: Target::Guest("a".to_owned()),
    };
    let deployment = Deployment::new(GuestSettings {
        grants: GuestGrants {
            session: SessionGrant::write().into(),
            ..GuestGrants::default()
        },
        ..GuestSettings::new("a", "a.wasm")
    });
    let site = RoutedGuests {
        routes: RouteTable::new(vec![route]).expect("a route"),
        guests: Arc::new(Deployments::from([("a".to_owned(), deployment)])),
    };
    let keys = KeyRing::new(vec![Secret::new(b"keyboard cat".to_vec())]).expect("a secret");
    let keys = Arc::new(keys);
    let jar_keys = CookieJarKeys::new(Arc::clone(&keys), &keys, IdComparison::Exact);
    let (store, clock) = (Arc::new(MemoryStore::new()), Clock::system());
    let options = Options {
        cookie_name: COOKIE_NAME.to_owned(),
        proxy_trust: ProxyTrust::None,
        head_bytes_max: limits::REQUEST_HEAD_BYTES_MAX,
        headers_max: limits::REQUEST_HEADERS_MAX,
        target_bytes_max: limits::REQUEST_TARGET_BYTES_MAX,
    };
    let sessions = SessionManager::new(SessionOptions::default(), keys, store, clock.clone());
    let jar = CookieJar::new(COOKIE_NAME, jar_keys, clock);
    Handler::new(
        options,
        site,
        Arc::new(Services::new(sessions, jar)),
        Quotas::new(QuotaTotals::default()),
        Some(hook),
    )
}

#[tokio::test]
async fn the_request_hook_sees_no_session_cookie() {
    let hook = Arc::new(CookieRecorder::default());
    let handler = handler(Arc::clone(&hook));
    let address = SocketAddr::from(([127, 0, 0, 1], 3000));
    let ends = ConnectionEnds {
        peer: address,
        local: address,
        share: handler.share(address.ip()),
        outbox: ConnectionOutbox::new(0),
    };
    let response = handler.answer(request("a=1; connect.sid=s%3Ax.y"), ends);
    assert_eq!(response.await.status(), StatusCode::OK);
    assert_eq!(*hook.0.lock(), ["a=1"]);
}
