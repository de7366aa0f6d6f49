//! `Set-Cookie` against headers of a real Express.

use super::*;

fn text(header: &HeaderValue) -> &str {
    header.to_str().expect("ASCII")
}

#[test]
fn headers_are_those_of_a_real_express() {
    let plain = CookieAttributes {
        expires_at_ms: Some(1_795_414_097_083),
        ..CookieAttributes::default()
    };
    assert_eq!(
        text(&set_cookie("connect.sid", "s%3Ad7Jo.%2B3xsq9", &plain)),
        "connect.sid=s%3Ad7Jo.%2B3xsq9; Path=/; Expires=Mon, 23 Nov 2026 06:08:17 GMT; HttpOnly"
    );
    let rich = CookieAttributes {
        expires_at_ms: Some(1_795_417_639_999),
        domain: Some("example.com".to_owned()),
        partitioned: true,
        priority: Some(Priority::High),
        same_site: Some(SameSite::Lax),
        ..CookieAttributes::default()
    };
    assert_eq!(
        text(&set_cookie("connect.sid", "s%3AGN6v.xqD1", &rich)),
        "connect.sid=s%3AGN6v.xqD1; Domain=example.com; Path=/; Expires=Mon, 23 Nov 2026 07:07:19 GMT; \
         HttpOnly; Partitioned; Priority=High; SameSite=Lax"
    );
}

#[test]
fn a_cookie_without_an_end_has_no_expires_and_flags_that_are_off_are_absent() {
    let bare = CookieAttributes {
        http_only: false,
        path: String::new(),
        ..CookieAttributes::default()
    };
    assert_eq!(text(&set_cookie("a", "b", &bare)), "a=b");
}

#[test]
fn every_flag_has_its_place_and_spelling() {
    for (same_site, priority, expected) in [
        (
            SameSite::Strict,
            Priority::Low,
            "Priority=Low; SameSite=Strict",
        ),
        (
            SameSite::Lax,
            Priority::Medium,
            "Priority=Medium; SameSite=Lax",
        ),
        (
            SameSite::None,
            Priority::High,
            "Priority=High; SameSite=None",
        ),
    ] {
        let attributes = CookieAttributes {
            path: "/app".to_owned(),
            secure: true,
            partitioned: true,
            same_site: Some(same_site),
            priority: Some(priority),
            ..CookieAttributes::default()
        };
        assert_eq!(
            text(&set_cookie("a", "b", &attributes)),
            format!("a=b; Path=/app; HttpOnly; Secure; Partitioned; {expected}")
        );
    }
}

#[test]
fn an_expired_cookie_keeps_everything_that_names_it() {
    let attributes = CookieAttributes {
        original_max_age_ms: Some(60_000),
        expires_at_ms: Some(1_795_414_097_083),
        path: "/app".to_owned(),
        domain: Some(".example.com".to_owned()),
        secure: true,
        partitioned: true,
        same_site: Some(SameSite::None),
        ..CookieAttributes::default()
    };
    assert_eq!(
        text(&expire_cookie("connect.sid", &attributes)),
        "connect.sid=; Domain=.example.com; Path=/app; Expires=Thu, 01 Jan 1970 00:00:00 GMT; \
         HttpOnly; Secure; Partitioned; SameSite=None"
    );
}

#[test]
fn the_attributes_of_a_hostile_row_inject_no_header_text() {
    let evil = "\r\nSet-Cookie: x=1";
    for (path, domain) in [
        (evil, evil),
        ("/; Domain=evil.example", "example.com; Path=/x"),
        ("/\u{e9}", "b\u{fc}cher.example"),
        ("/\0", "a..b"),
    ] {
        let attributes = CookieAttributes {
            path: path.to_owned(),
            domain: Some(domain.to_owned()),
            ..CookieAttributes::default()
        };
        assert_eq!(text(&set_cookie("a", "b", &attributes)), "a=b; HttpOnly");
    }
    let attributes = CookieAttributes::default();
    let header = set_cookie("a;\r\nb = é", "v\"; Domain=x,\\ \r\né\u{141}", &attributes);
    assert_eq!(text(&header), "ab=vDomain=x; Path=/; HttpOnly");
}

#[test]
fn an_expiry_outside_the_range_of_http_dates_is_clamped() {
    assert_eq!(http_date(i64::MIN), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(http_date(-1), "Thu, 01 Jan 1970 00:00:00 GMT");
    assert_eq!(http_date(i64::MAX), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(http_date(951_782_400_000), "Tue, 29 Feb 2000 00:00:00 GMT");
}

#[test]
fn debug_does_not_show_the_set_cookie_header() {
    let header = set_cookie("connect.sid", "hunter2", &CookieAttributes::default());
    assert!(header.is_sensitive());
    assert!(!format!("{header:?}").contains("hunter2"));
}

#[test]
fn a_cookie_path_matches_itself_and_the_paths_below_it() {
    for (cookie, request) in [
        ("/", "/"),
        ("/", "/any"),
        ("/admin", "/admin"),
        ("/admin", "/admin/"),
        ("/admin", "/admin/x"),
        ("/admin/", "/admin/"),
        ("/admin/", "/admin/x"),
        ("", "/x"),
        ("admin", "/x"),
    ] {
        assert!(path_matches(cookie, request), "{cookie} {request}");
    }
    for (cookie, request) in [
        ("/ge", "/get"),
        ("/admin", "/administrator"),
        ("/admin", "/Admin"),
        ("/admin/", "/admin"),
        ("/admin", "/"),
        ("/admin", "*"),
    ] {
        assert!(!path_matches(cookie, request), "{cookie} {request}");
    }
}

#[test]
fn only_domains_and_paths_that_express_can_send_are_valid() {
    let (label, long) = ("x".repeat(63), "x".repeat(64));
    for domain in [
        "example.com",
        ".example.com",
        "localhost",
        "127.0.0.1",
        "A-b.c",
        &label,
    ] {
        assert!(is_valid_domain(domain), "{domain}");
    }
    for domain in [
        "", ".", "..a", "a.", "-a", "a-", "a..b", "a b", "a_b", "a:80", "é", "a;b", &long,
    ] {
        assert!(!is_valid_domain(domain), "{domain}");
    }
    for path in ["/", "/a b", "/a=b,c\"", "a"] {
        assert!(is_valid_path(path), "{path}");
    }
    for path in [
        "",
        "/a;b",
        "/<",
        "/é",
        "/\t",
        "/\u{7f}",
        "/\r\n",
        &format!("/{}", "x".repeat(1024)),
    ] {
        assert!(!is_valid_path(path), "{path}");
    }
}
