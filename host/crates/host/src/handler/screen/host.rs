//! Validation of a request's host. A guest never receives a host that a URL cannot have, because a guest that makes a URL of its
//! request, as `fetch` handlers do, would fail on it.

use std::net::Ipv4Addr;

use http::uri::Authority;
use url::Url;

use cloakroom_base::hostname;

/// Whether an authority is a host with an optional port, as the WHATWG URL standard parses them. Hosts with percent signs are
/// also refused, because routes would treat two spellings of one host as two hosts. So are hosts that are too long to be parsed
/// quickly.
pub(crate) fn is_host_and_port(authority: &Authority) -> bool {
    let host = authority.host();
    // If the authority has user information, it comes before the host.
    let Some(rest) = authority.as_str().strip_prefix(host) else {
        return false;
    };
    let is_port = |digits: &str| {
        digits.is_empty()
            || (digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok())
    };
    let has_port = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
    let may_be_host = !host.is_empty() && !host.contains('%') && hostname::is_bounded(host);
    has_port && may_be_host && is_host(host)
}

fn is_host(host: &str) -> bool {
    is_plain_name(host)
        || host.parse::<Ipv4Addr>().is_ok()
        || Url::parse(&format!("http://{host}/")).is_ok_and(|url| url.has_host())
}

/// Whether the URL parser would return the host unchanged, so that it need not be called: the host consists of letters, digits,
/// hyphens and dots, has no IDNA label, and its last label does not begin like a number.
fn is_plain_name(host: &str) -> bool {
    let is_plain = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-');
    let mut last = "";
    host.bytes().all(is_plain)
        && host.split('.').all(|label| {
            last = label;
            !label.is_empty() && !label.starts_with("xn--")
        })
        && last.starts_with(|first: char| first.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(text: &str) -> bool {
        text.parse::<Authority>()
            .is_ok_and(|it| is_host_and_port(&it))
    }

    #[test]
    fn valid_url_hosts_are_accepted() {
        for host in [
            "a",
            "localhost",
            "localhost:3000",
            "shop.example.com",
            "Shop.Example.COM:8080",
            "a.b.",
            "a:",
            "a:0",
            "a:65535",
            "127.0.0.1",
            "127.0.0.1:80",
            "1.2.3",
            "0x7f.1",
            "1.2.3.4.",
            "[::1]",
            "[::1]:8080",
            "[2001:db8::1]",
            "[::ffff:1.2.3.4]",
            "a-b.c-d",
            "a--b",
            "-a",
            "a_b.example",
            "xn--bcher-kva.example",
            "1a.example",
            "a.1b",
            "example.123x",
            "a..b",
            "~a",
        ] {
            assert!(is(host), "{host}");
        }
    }

    #[test]
    fn invalid_url_hosts_are_refused() {
        for host in [
            "",
            ":80",
            "999.1.1.1",
            "1.2.3.4.5",
            "256.256.256.256",
            "a.1",
            "example.0x",
            "example.123",
            "1..2",
            "a:65536",
            "a:99999",
            "a:123456",
            "a:+1",
            "a:1a",
            "u@a",
            "u:p@a",
            "@a",
            "a b",
            "a%62",
            "ex%61mple.com",
            "%31%32.1",
            "[::1",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[1.2.3.4]",
            "[::g]",
            "[1::2::3]",
            "[v1.a]",
            "xn--",
            "xn--a",
            "xn--zzzzzzzzzzzzz99999",
            "a<b",
            "a^b",
            "a|b",
        ] {
            assert!(!is(host), "{host}");
        }
    }

    #[test]
    fn hosts_that_are_too_long_are_refused_before_they_are_parsed() {
        let long = "a".repeat(63);
        let name = [long.as_str(); 4].join(".");
        for host in [&long, &name, &format!("{name}:65535")] {
            assert!(is(host), "{host}");
        }
        // The parser would take 30 ms for the last of these.
        for host in [
            "a".repeat(64),
            format!("{}.a", "a".repeat(64)),
            format!("{name}.a"),
            format!("[{}]", "0:".repeat(127)),
            format!("xn--{0}.xn--{0}", "a".repeat(1_996)),
            format!("xn--{}.", "a".repeat(1_990)).repeat(15),
        ] {
            assert!(!is(&host), "{} bytes", host.len());
            assert!(!is(&format!("{host}:80")), "{} bytes", host.len());
        }
    }

    #[test]
    fn the_fast_path_for_plain_names_agrees_with_the_url_parser() {
        let letters = b"ab019xX-._n";
        let mut random = fastrand::Rng::with_seed(10);
        for _ in 0..200_000 {
            let length = random.usize(1..12);
            let bytes = (0..length).map(|_| letters[random.usize(..letters.len())]);
            let host = String::from_utf8(bytes.collect()).unwrap();
            let parsed = Url::parse(&format!("http://{host}/"));
            if is_plain_name(&host) {
                let found = parsed.as_ref().ok().and_then(Url::host_str);
                assert_eq!(found, Some(host.as_str()), "{host}");
            }
            if host.parse::<Ipv4Addr>().is_ok() {
                assert!(parsed.is_ok(), "{host}");
            }
        }
    }
}
