//! Restricts `cloakroom dev` to requests whose `Host` names this machine. A web page can make its own host name resolve to this
//! machine (DNS rebinding) and then read the responses of guests, but its requests carry that name in `Host`.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Response, StatusCode, header};

use cloakroom_host::handler::HookResponse;
use cloakroom_host::json_api::is_this_machine;
use cloakroom_host::route::Route;

/// Checks the `Host` of requests.
#[derive(Debug)]
pub(crate) struct HostCheck {
    listen: SocketAddr,
}

impl HostCheck {
    /// Creates the check for a host that listens on `listen`.
    pub(crate) fn new(listen: SocketAddr) -> Self {
        Self { listen }
    }

    /// Returns the response that rejects a request, if the request is not addressed to this machine.
    pub(crate) fn refuse(&self, route: &Route, head: &Parts) -> Option<HookResponse> {
        let host = head.headers.get(header::HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        // Routing has matched the request against the host name of the route. The developer has configured that name, so it is
        // trusted.
        if route.host.is_some() || self.may_be(host) {
            return None;
        }
        let text = format!(
            "{}\n`cloakroom dev` only answers requests to this machine, and this one is addressed to {host}.\nOpen \
             http://localhost:{}, or give the route that host: host = \"NAME\".\n",
            StatusCode::FORBIDDEN,
            self.listen.port(),
        );
        let mut response = Response::new(text);
        *response.status_mut() = StatusCode::FORBIDDEN;
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, plain);
        let nosniff = HeaderValue::from_static("nosniff");
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(HookResponse {
            response,
            kind: "foreign-host",
        })
    }

    fn may_be(&self, host: &str) -> bool {
        if is_this_machine(host) {
            return true;
        }
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority.host().trim_end_matches('.');
        let bare = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        match bare.unwrap_or(name).parse::<IpAddr>() {
            // An attacker cannot make an IP address resolve to this machine. If the host listens on all addresses, any address
            // is accepted.
            Ok(address) => {
                let listen = self.listen.ip();
                listen.is_unspecified() || address.to_canonical() == listen.to_canonical()
            }
            // Browsers resolve these names to this machine without a DNS query (RFC 6761, section 6.3).
            Err(_) => name.to_ascii_lowercase().ends_with(".localhost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_host::route::Target;

    fn status(listen: &str, host: &str, of_route: Option<&str>) -> Option<u16> {
        let callers = HostCheck::new(listen.parse().unwrap());
        let route = Route {
            path: "/".to_owned(),
            methods: Vec::new(),
            host: of_route.map(str::to_owned),
            target: Target::Guest("g".to_owned()),
        };
        let request = http::Request::builder().header("host", host);
        let head = request.body(()).unwrap().into_parts().0;
        let refused = callers.refuse(&route, &head);
        refused.map(|it| it.response.status().as_u16())
    }

    #[test]
    fn only_requests_to_names_of_this_machine_are_answered() {
        for host in [
            "localhost:3000",
            "LOCALHOST",
            "127.0.0.1:3000",
            "[::1]:3000",
            "shop.localhost:3000",
            "10.1.2.3:3000",
        ] {
            assert_eq!(status("10.1.2.3:3000", host, None), None, "{host}");
        }
        for host in [
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "evillocalhost",
            "10.1.2.4:3000",
            "[2001:db8::1]",
            "",
        ] {
            assert_eq!(status("10.1.2.3:3000", host, None), Some(403), "{host}");
        }
    }

    #[test]
    fn a_wildcard_listener_answers_any_ip_address_but_no_foreign_name() {
        for listen in ["0.0.0.0:3000", "[::]:3000"] {
            assert_eq!(status(listen, "192.168.1.5:3000", None), None);
            assert_eq!(status(listen, "evil.example", None), Some(403));
        }
    }

    #[test]
    fn a_host_that_the_route_names_is_answered() {
        assert_eq!(
            status("127.0.0.1:3000", "shop.test", Some("shop.test")),
            None
        );
    }
}
