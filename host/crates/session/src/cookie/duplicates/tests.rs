//! Scopes of cookies as browsers distinguish them.

use super::*;

const NAME: &str = "connect.sid";

fn cookie(domain: Option<&str>, path: &str) -> CookieAttributes {
    CookieAttributes {
        domain: domain.map(str::to_owned),
        path: path.to_owned(),
        ..CookieAttributes::default()
    }
}

/// Returns the domain and path of each scope, with `-` for the host alone.
fn places(name: &str, host: &str, path: &str, kept: &[&CookieAttributes]) -> Vec<String> {
    let sent = RequestTarget { host, path };
    let DuplicateCookies { places, .. } =
        duplicate_places(name, sent, &cookie(None, "/"), kept, 16);
    let text = |place: &CookieAttributes| {
        format!("{} {}", place.domain.as_deref().unwrap_or("-"), place.path)
    };
    places.iter().map(text).collect()
}

#[test]
fn all_parent_domains_and_path_prefixes_are_listed() {
    assert_eq!(
        places(NAME, "WWW.example.com:8080", "/", &[]),
        ["- /", "www.example.com /", "example.com /"]
    );
    assert_eq!(
        places(NAME, "example.com", "/a/b", &[]),
        [
            "- /",
            "- /a",
            "example.com /",
            "- /a/b",
            "example.com /a",
            "example.com /a/b",
            "- /a/",
            "example.com /a/",
        ]
    );
}

#[test]
fn a_host_that_can_be_no_domain_has_parents_all_the_same() {
    assert_eq!(
        places(NAME, "a_b.www.example.com", "/", &[]),
        ["- /", "www.example.com /", "example.com /"]
    );
}

#[test]
fn ip_addresses_and_single_labels_have_no_parent_domains() {
    for host in [
        "localhost:3000",
        "127.0.0.1:3000",
        "[::1]:3000",
        "[2001:db8::1]",
        "a.b.7",
        "example.com.",
        "[::ffff:10.0.0.1]:3000",
    ] {
        assert_eq!(places(NAME, host, "/", &[]), ["- /"], "{host}");
    }
}

#[test]
fn the_domain_and_path_of_the_live_cookie_are_not_expired() {
    let all = places(NAME, "www.example.com", "/", &[]);
    for (live, left) in [
        (
            cookie(None, "/"),
            vec!["www.example.com /", "example.com /"],
        ),
        (
            cookie(Some(".WWW.example.com"), "/"),
            vec!["- /", "example.com /"],
        ),
        (
            cookie(Some("example.com"), "/"),
            vec!["- /", "www.example.com /"],
        ),
        (
            cookie(Some("example.com"), "/a"),
            all.iter().map(String::as_str).collect(),
        ),
        // It is unknown which path a browser has derived from it.
        (cookie(None, "odd"), vec!["example.com /"]),
        (cookie(None, "/a;b"), vec!["example.com /"]),
        (
            cookie(Some("no domain"), "/"),
            vec!["www.example.com /", "example.com /"],
        ),
    ] {
        assert_eq!(
            places(NAME, "www.example.com", "/", &[&live]),
            left,
            "{live:?}"
        );
    }
}

#[test]
fn a_live_cookie_that_an_expired_duplicate_may_remove_is_set_again() {
    let hits = |live: &CookieAttributes| {
        let sent = RequestTarget {
            host: "www.example.com:8080",
            path: "/a",
        };
        duplicate_places(NAME, sent, &cookie(None, "/"), &[live], 16).hits_kept
    };
    for live in [
        cookie(None, "/"),
        cookie(Some("www.example.com"), "/"),
        cookie(Some("www.example.com"), "/a"),
    ] {
        assert!(hits(&live), "{live:?}");
    }
    for live in [
        cookie(Some("example.com"), "/"),
        cookie(None, "/elsewhere"),
        cookie(None, "odd"),
    ] {
        assert!(!hits(&live), "{live:?}");
    }
}

#[test]
fn no_duplicates_are_guessed_for_host_prefixed_cookie_names() {
    for name in ["__Host-sid", "__Http-sid", "__host-sid", "__Host-Http-sid"] {
        assert_eq!(
            places(name, "www.example.com", "/a", &[]),
            ["- /"],
            "{name}"
        );
        let live = cookie(None, "/");
        assert_eq!(places(name, "www.example.com", "/a", &[&live]).len(), 0);
    }
    assert!(places("__Secure-sid", "www.example.com", "/a", &[]).len() > 1);
}

#[test]
fn the_list_is_bounded_and_holds_each_place_once() {
    let host = format!("{}example.com", "a.".repeat(60));
    let path = "/x".repeat(4_000);
    let list = places(NAME, &host, &path, &[]);
    assert_eq!(list.len(), 16);
    assert!(list.iter().map(String::len).sum::<usize>() < BYTES_MAX + 16 * 3);
    let path = format!("/{}/b", "x".repeat(1_000));
    let list = places(NAME, "example.com", &path, &[]);
    assert!(list.iter().map(String::len).sum::<usize>() < BYTES_MAX + 16 * 3);
    assert!(list.len() >= 3, "{list:?}");
    for (at, place) in list.iter().enumerate() {
        assert!(!list[..at].contains(place), "{place}");
    }
    for path in ["//", "/a//b/", "/;", "/<x>", "/%C3%A9"] {
        for place in places(NAME, "example.com", path, &[]) {
            let (_, at) = place.split_once(' ').expect("two words");
            assert!(
                path_matches(at, path) && is_valid_path(at),
                "{path}: {place}"
            );
        }
    }
}

#[test]
fn the_flags_are_those_of_the_cookie_and_its_own_place_comes_first() {
    let own = CookieAttributes {
        secure: true,
        partitioned: true,
        ..cookie(Some("example.com"), "/shop")
    };
    let sent = RequestTarget {
        host: "www.example.com",
        path: "/shop/cart",
    };
    let duplicate_places = |places_max| duplicate_places(NAME, sent, &own, &[], places_max).places;
    let places = duplicate_places(16);
    assert_eq!(places[0], own);
    assert!(places.iter().all(|place| place.secure && place.partitioned));
    assert_eq!(duplicate_places(3).len(), 3);
    assert_eq!(duplicate_places(0).len(), 0);
}
