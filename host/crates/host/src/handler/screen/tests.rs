//! Tests of the request validation: the requests that pass, their form, and the requests that are refused.

use super::*;

fn options() -> ScreenOptions {
    ScreenOptions {
        cookie_name: "connect.sid".to_owned(),
        proxy_trust: ProxyTrust::Networks(vec!["10.0.0.0/8".parse().unwrap()]),
        head_bytes_max: 1024,
        headers_max: 20,
        target_bytes_max: 64,
    }
}

fn get(target: &str) -> http::request::Builder {
    http::Request::builder().uri(target)
}

fn host(target: &str) -> http::request::Builder {
    get(target).header("host", "shop.example:8080")
}

fn run(request: http::request::Builder) -> Result<(Parts, ScreenedRequest), ScreenReject> {
    let mut head = request.body(()).unwrap().into_parts().0;
    let peer = "10.0.0.9".parse().unwrap();
    let screened = screen(
        &mut head,
        peer,
        "127.0.0.1:3000".parse().unwrap(),
        &options(),
    )?;
    Ok((head, screened))
}

fn refusal(request: http::request::Builder) -> ScreenReject {
    run(request)
        .map(|(head, _)| head.uri)
        .expect_err("the screen stops it")
}

#[test]
fn a_plain_request_passes_as_it_is() {
    let (head, screened) = run(host("/session?a=%0A&b=/../").header("accept", "*/*")).unwrap();
    assert_eq!(head.uri, "/session?a=%0A&b=/../");
    assert_eq!(
        (screened.host.as_str(), screened.scheme),
        ("shop.example:8080", Scheme::HTTP)
    );
    assert_eq!(screened.client, "10.0.0.9".parse::<IpAddr>().unwrap());
    assert_eq!(
        (screened.content_length, &*screened.path),
        (None, "/session")
    );
}

#[test]
fn a_guest_sees_the_path_that_was_routed() {
    assert_eq!(
        run(host("/a/%2e%2e/%61dmin?x=%61")).unwrap().0.uri,
        "/admin?x=%61"
    );
}

#[test]
fn paths_with_invalid_or_control_character_escapes_are_refused() {
    for target in ["/a%00", "/a%0d%0aX:y", "/a%7f", "/a%2", "/a%zz"] {
        assert!(
            matches!(refusal(host(target)), ScreenReject::Malformed(_)),
            "{target}"
        );
    }
}

#[test]
fn long_targets_and_large_heads_are_refused() {
    let long = format!("/{}?{}", "a".repeat(32), "b".repeat(32));
    assert_eq!(refusal(host(&long)), ScreenReject::TargetTooLong);
    assert_eq!(
        refusal(host("/").header("x", "y".repeat(1024))),
        ScreenReject::HeadTooLarge
    );
    let many = (0..20).fold(host("/"), |request, _| request.header("x", "y"));
    assert_eq!(refusal(many), ScreenReject::HeadTooLarge);
}

#[test]
fn http_1_1_needs_exactly_one_host() {
    assert_eq!(
        refusal(get("/")),
        ScreenReject::Malformed("There is no Host header.")
    );
    assert_eq!(
        refusal(host("/").header("host", "other")),
        ScreenReject::Malformed("There is more than one Host header.")
    );
    for bad in [
        "",
        "a b",
        "user@host",
        "host@host",
        "h/path",
        "h:port",
        "[::1",
        "\u{e9}",
    ] {
        assert_eq!(
            refusal(get("/").header("host", bad)),
            ScreenReject::Malformed("The Host header names no host."),
            "{bad:?}"
        );
    }
}

/// Tests the three places of a host: `Host`, an absolute target and `:authority`.
#[test]
fn a_host_is_refused_unparsed_where_it_is_too_long() {
    let long = format!("xn--{0}.xn--{0}", "a".repeat(200));
    let absolute = format!("http://{long}/x");
    for request in [
        get("/").header("host", &long),
        get("/").header("host", format!("{long}:80")),
        get("/").header("host", format!("{}.example", "a".repeat(64))),
        get("/").version(Version::HTTP_10).header("host", &long),
        get(&absolute).header("host", "a.example"),
        get("http://a.example/x").header("host", &long),
        get(&absolute).version(Version::HTTP_2),
        get(&absolute)
            .version(Version::HTTP_2)
            .header("host", &long),
    ] {
        assert!(matches!(refusal(request), ScreenReject::Malformed(_)));
    }
    let longest = format!("{}.example", "a".repeat(63));
    let (_, screened) = run(get("/").header("host", &longest)).unwrap();
    assert_eq!(screened.host, longest);
}

#[test]
fn http_1_0_without_a_host_means_the_address_it_connected_to() {
    let (head, screened) = run(get("/").version(Version::HTTP_10)).unwrap();
    assert_eq!(
        (
            screened.host.as_str(),
            head.headers.get(HOST).unwrap().to_str().unwrap()
        ),
        ("127.0.0.1:3000", "127.0.0.1:3000")
    );
}

#[test]
fn the_host_of_an_absolute_target_replaces_the_host_header() {
    let (head, screened) = run(get("http://a.example/x").header("host", "b.example")).unwrap();
    assert_eq!(
        (screened.host.as_str(), head.uri.to_string().as_str()),
        ("a.example", "/x")
    );
    assert_eq!(head.headers.get(HOST).unwrap(), "a.example");
    assert_eq!(
        refusal(get("http://a.example/x")),
        ScreenReject::Malformed("There is no Host header.")
    );
    assert!(matches!(
        refusal(host("http://u:p@a.example/x")),
        ScreenReject::Malformed(_)
    ));
    assert!(matches!(
        refusal(host("ftp://a.example/x")),
        ScreenReject::Malformed(_)
    ));
}

#[test]
fn an_authority_alone_is_no_target() {
    assert!(matches!(
        refusal(host("a.example:80")),
        ScreenReject::Malformed(_)
    ));
}

#[test]
fn host_and_authority_of_http_2_must_agree() {
    let http2 = |authority: &str| get(&format!("http://{authority}/x")).version(Version::HTTP_2);
    assert_eq!(run(http2("a.example")).unwrap().1.host, "a.example");
    assert_eq!(
        run(http2("a.example").header("host", "a.example"))
            .unwrap()
            .1
            .host,
        "a.example"
    );
    assert_eq!(
        refusal(http2("a.example").header("host", "b.example")),
        ScreenReject::Malformed("Host and :authority differ.")
    );
    assert_eq!(
        refusal(get("/x").version(Version::HTTP_2)),
        ScreenReject::Malformed("There is no Host header.")
    );
}

#[test]
fn a_content_length_that_is_not_one_number_is_refused() {
    assert_eq!(
        run(host("/").header("content-length", "007"))
            .unwrap()
            .1
            .content_length,
        Some(7)
    );
    for bad in ["+5", "5, 5", "-1", "0x5", "", "99999999999999999999"] {
        let request = host("/").header("content-length", bad);
        assert_eq!(
            refusal(request),
            ScreenReject::Malformed("Content-Length is not one number."),
            "{bad:?}"
        );
    }
    let twice = host("/")
        .header("content-length", "5")
        .header("content-length", "5");
    assert_eq!(
        refusal(twice),
        ScreenReject::Malformed("Content-Length is not one number.")
    );
}

#[test]
fn tunnels_and_traces_are_not_implemented() {
    assert_eq!(
        refusal(host("/").method("TRACE")),
        ScreenReject::MethodNotImplemented
    );
    assert_eq!(
        refusal(host("a.example:443").method("CONNECT")),
        ScreenReject::MethodNotImplemented
    );
}

#[test]
fn an_asterisk_target_passes_the_screen() {
    assert_eq!(run(host("*").method("OPTIONS")).unwrap().0.uri, "*");
    // hyper's form of an HTTP/2 request, whose target always has a scheme and an authority.
    let parts = http::uri::Builder::new()
        .scheme("http")
        .authority("shop.example:8080")
        .path_and_query("*");
    let request = http::Request::builder()
        .method("OPTIONS")
        .uri(parts.build().unwrap());
    let (head, _) = run(request.version(http::Version::HTTP_2)).unwrap();
    assert!(head.uri.authority().is_none() && head.uri.scheme().is_none());
    assert_eq!(head.uri, "*");
}

#[test]
fn our_cookie_is_not_touched_before_the_target_is_known() {
    let cookies = "a=1; connect.sid=s%3Ax.y; b=2";
    let (head, _) = run(host("/").header("cookie", cookies)).unwrap();
    assert_eq!(head.headers.get(COOKIE).unwrap(), cookies);
}

#[test]
fn several_cookie_headers_of_http_2_are_joined_into_one() {
    let request = get("http://h/").version(Version::HTTP_2);
    let request = request
        .header("cookie", "a=1")
        .header("cookie", "connect.sid=s%3Ax.y")
        .header("cookie", "b=2");
    let (head, _) = run(request).unwrap();
    let cookies: Vec<_> = head.headers.get_all(COOKIE).iter().collect();
    assert_eq!(cookies, ["a=1; connect.sid=s%3Ax.y; b=2"]);
}

#[test]
fn an_upgrade_is_ignored() {
    let request = host("/")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket");
    let (head, _) = run(request).unwrap();
    assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["host"]);
}

#[test]
fn a_transfer_coding_other_than_chunked_is_not_implemented() {
    let coded = |values: &[&str]| {
        let add = |request: http::request::Builder, value: &&str| {
            request.header("transfer-encoding", *value)
        };
        run(values.iter().fold(host("/"), add)).map(drop)
    };
    for values in [&["chunked"][..], &["Chunked"], &[]] {
        assert!(coded(values).is_ok(), "{values:?}");
    }
    for values in [
        &["gzip, chunked"][..],
        &["chunked, chunked"],
        &["chunked", "chunked"],
        &["gzip", "chunked"],
        &["identity"],
        &["identity, chunked"],
        &["chunked;q=1"],
        &["xchunked"],
        &[""],
    ] {
        assert_eq!(
            coded(values),
            Err(ScreenReject::CodingNotImplemented),
            "{values:?}"
        );
    }
}

#[test]
fn a_method_has_a_bounded_length() {
    let asked = |method: &str| run(host("/").method(method)).map(drop);
    assert!(asked("UPDATEREDIRECTREF").is_ok() && asked(&"M".repeat(32)).is_ok());
    for method in ["TRACE", &"M".repeat(33)] {
        assert_eq!(
            asked(method),
            Err(ScreenReject::MethodNotImplemented),
            "{method}"
        );
    }
}

#[test]
fn fields_that_look_like_ours_do_not_reach_the_guest() {
    let request = host("/")
        .header("x_forwarded_for", "1.2.3.4")
        .header("content_length", "5")
        .header("x-forwarded_proto", "https")
        .header("my_own", "stays");
    let (head, screened) = run(request).unwrap();
    let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["host", "my_own"]);
    assert_eq!(screened.scheme, Scheme::HTTP);
}
