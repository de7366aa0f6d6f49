//! Grants against URLs in all spellings.

use super::*;

fn granted(hosts: &str) -> Vec<OutboundHost> {
    hosts
        .split_whitespace()
        .map(|host| host.parse().unwrap())
        .collect()
}

fn reaches(hosts: &str, uri: &str) -> bool {
    // A text that the interface's own parser refuses reaches no host.
    let Ok(uri) = uri.parse::<Uri>() else {
        return false;
    };
    destination(&granted(hosts), &uri).is_ok()
}

fn allows_private(hosts: &[OutboundHost], uri: &str) -> bool {
    destination(hosts, &uri.parse().unwrap()).unwrap().private
}

#[test]
fn only_granted_hosts_and_ports_are_reached() {
    assert!(reaches("api.example.com", "https://API.example.com/x"));
    assert!(reaches("api.example.com", "http://api.example.com"));
    assert!(!reaches("api.example.com", "http://api.example.com:8080"));
    assert!(reaches(
        "api.example.com:8080",
        "http://api.example.com:8080/"
    ));
    assert!(!reaches("api.example.com:8080", "http://api.example.com/"));
    assert!(!reaches("", "http://api.example.com/"));
    assert!(!reaches(
        "api.example.com",
        "http://api.example.com.evil.test/"
    ));
    assert!(reaches("[::1]:80", "http://[::1]/"));
    assert!(!reaches("api.example.com", "/path"));
}

#[test]
fn a_wildcard_grants_subdomains_but_not_the_domain_itself() {
    assert!(reaches("*.example.com", "https://a.b.example.com/"));
    assert!(!reaches("*.example.com", "https://example.com/"));
    assert!(!reaches("*.example.com", "https://badexample.com/"));
    assert!(!reaches("*.example.com", "https://.example.com/"));
    assert!(!reaches("*.example.com", "https://..example.com/"));
}

#[test]
fn user_information_is_refused_and_not_shown() {
    let hosts = granted("api.test 127.0.0.1:81 *.below.test");
    for (uri, shown) in [
        ("http://user:hunter2@api.test/", "api.test"),
        ("http://user@api.test:443/", "api.test:443"),
        ("http://@api.test/", "api.test"),
        ("http://:@127.0.0.1:81/", "127.0.0.1:81"),
        ("http://evil.test%40x@a.below.test/", "a.below.test"),
    ] {
        let uri: Uri = uri.parse().unwrap();
        assert_eq!(
            destination(&hosts, &uri),
            Err(DestinationRefusal::UserInfo(shown)),
            "{uri}"
        );
    }
    // A granted name in the user information does not allow another host.
    for uri in [
        "http://api.test@evil.test/",
        "http://api.test:80@evil.test/",
        "http://api.test:hunter2@evil.test:80/",
    ] {
        let uri: Uri = uri.parse().unwrap();
        let refused = destination(&hosts, &uri).unwrap_err();
        assert!(
            matches!(refused, DestinationRefusal::NotGranted(Some(host)) if host.starts_with("evil.test")),
            "{uri}"
        );
    }
}

#[test]
fn a_text_that_is_no_host_is_refused() {
    for text in [
        "",
        "*",
        "a*b",
        "http://x",
        "x/y",
        "u@x",
        "x:99999",
        "x:0",
        "x:",
        "x:+80",
        "x: 80",
        "*.",
        "*.*.x",
        "*.10.0.0.1",
        "*.[::1]",
        "::1",
        "[::1",
        "[fe80::1%25eth0]",
        "x%41",
        "a..b",
        ".a",
        "a b",
        "256.1.1.1",
        "1.2.3.4.5",
    ] {
        assert_eq!(text.parse::<OutboundHost>(), Err(BadHost), "{text}");
    }
}

#[test]
fn a_host_is_the_same_in_every_spelling() {
    for (one, same) in [
        ("api.example.com", "http://API.Example.COM/"),
        ("api.example.com", "http://api.example.com./"),
        ("API.EXAMPLE.COM.", "http://api.example.com/"),
        ("bücher.example", "http://xn--bcher-kva.example/"),
        ("BÜCHER.example", "http://xn--BCHER-kva.example/"),
        ("10.0.0.1", "http://[::ffff:10.0.0.1]/"),
        ("[::ffff:a00:1]", "http://10.0.0.1/"),
        ("[2001:DB8:0:0::1]", "http://[2001:db8::1]/"),
    ] {
        assert!(reaches(one, same), "{one} {same}");
    }
}

/// An address is matched as that address in every spelling: never as a name that a pattern matches, nor as another
/// address.
#[test]
fn an_ip_address_in_any_spelling_matches_only_as_that_address() {
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..2_000 {
        let octets = [(); 4].map(|()| random.u8(..));
        let number = u32::from_be_bytes(octets);
        let [a, b, c, d] = octets;
        let spellings = [
            format!("{a}.{b}.{c}.{d}"),
            format!("{a}.{b}.{c}.{d}."),
            format!("{number}"),
            format!("{number:#x}"),
            format!("0X{number:X}"),
            format!("0{number:o}"),
            format!("{a}.{}", number & 0xff_ffff),
            format!("{a}.{b}.{}", number & 0xffff),
            format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"),
            format!("{a:#x}.{b}.0{c:o}.{d}"),
            format!("0x{a:04x}.{}", number & 0xff_ffff),
            format!("[::ffff:{a}.{b}.{c}.{d}]"),
            format!("[0:0:0:0:0:FFFF:{a:02x}{b:02x}:{c:02x}{d:02x}]"),
        ];
        let other = format!("{a}.{b}.{c}.{}", d.wrapping_add(1));
        for spelling in spellings {
            let uri = format!("http://{spelling}/");
            assert!(reaches(&format!("{a}.{b}.{c}.{d}"), &uri), "{spelling}");
            assert!(!reaches(&other, &uri), "{spelling}");
            assert!(!reaches("other.test *.test", &uri), "{spelling}");
        }
    }
}

#[test]
fn an_odd_spelling_of_a_url_reaches_nothing_that_its_plain_form_does_not() {
    for uri in [
        "http://api.test:0/",
        "http://api.test:/",
        "http://api.test:+80/",
        "http://api.test:65536/",
        "http://[fe80::1%25eth0]/",
        "http://api.test../",
        "http://evil.test#.api.test/",
        "http://evil.test?.api.test/",
        "http://evil.test/.api.test",
        "http://evil.test\\.api.test/",
    ] {
        assert!(
            !reaches("api.test *.api.test api.test:1 [fe80::1]", uri),
            "{uri}"
        );
    }
}

#[test]
fn a_host_that_is_too_long_is_refused_before_it_is_parsed() {
    let long = "a".repeat(63);
    let name = [long.as_str(), "b", &long, "c.test"].join(".");
    assert!(reaches("*.test", &format!("https://{name}/")));
    assert!(reaches(&name, &format!("https://{name}./")));
    let bytes_max = 60_000;
    for host in [
        "a".repeat(64),
        format!("{}.b", "a".repeat(64)),
        [long.as_str(); 4].join(".") + ".b",
        format!("xn--{0}.xn--{0}", "a".repeat(1_996)),
        format!("xn--{}.", "a".repeat(1_990)).repeat(bytes_max / 2_000),
        format!("xn--{}", "a".repeat(bytes_max)),
    ] {
        for uri in [
            format!("http://{host}.test/"),
            format!("http://{host}.test:80/"),
            format!("http://user@{host}.test/"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            let refused = destination(&granted("*.test"), &uri);
            assert_eq!(
                refused,
                Err(DestinationRefusal::NotGranted(None)),
                "{}",
                host.len()
            );
        }
        assert_eq!(host.parse::<OutboundHost>(), Err(BadHost));
    }
}

#[test]
fn only_ip_addresses_localhost_and_private_grants_may_be_private() {
    let hosts = granted("10.0.0.1 localhost LOCALHOST.:81 api.test *.below.test *.localhost [::1]");
    for (uri, private) in [
        ("http://10.0.0.1/", true),
        ("http://0x0a000001/", true),
        ("http://[::1]/", true),
        ("http://localhost/", true),
        ("http://localhost.:81/", true),
        ("http://api.test/", false),
        ("http://a.below.test/", false),
        ("http://a.localhost/", false),
    ] {
        assert_eq!(allows_private(&hosts, uri), private, "{uri}");
    }
    let private: Vec<_> = hosts
        .into_iter()
        .map(|host| host.with_private(true))
        .collect();
    assert!(allows_private(&private, "http://api.test/"));
    assert!(allows_private(&private, "http://a.below.test/"));
}

#[test]
fn of_two_matching_grants_the_wider_one_applies() {
    let narrow: OutboundHost = "api.test".parse().unwrap();
    let wide: OutboundHost = "*.test".parse().unwrap();
    let both = [narrow.clone(), wide.clone().with_private(true)];
    assert!(allows_private(&both, "http://api.test/"));
    assert!(!allows_private(&[narrow, wide], "http://api.test/"));
}

#[test]
fn a_grant_is_shown_as_it_is_written() {
    for text in [
        "api.example.com",
        "api.example.com:8080",
        "*.example.com:81",
        "[::1]:80",
        "10.0.0.1",
    ] {
        assert_eq!(text.parse::<OutboundHost>().unwrap().to_string(), text);
    }
    let private = "api.internal"
        .parse::<OutboundHost>()
        .unwrap()
        .with_private(true);
    assert_eq!(private.to_string(), "api.internal (private)");
}
