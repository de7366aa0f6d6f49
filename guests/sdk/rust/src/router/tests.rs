//! Tests of the routing of requests.

use super::*;

fn show(request: Request) -> String {
    let params = request.params().iter();
    let params: Vec<_> = params
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{} {}", request.path(), params.join(" "))
}

fn at(name: &'static str) -> impl Fn(Request) -> String {
    move |request| format!("{name}: {}", show(request).trim_end())
}

fn shop() -> Router {
    Router::new()
        .get("/", at("front"))
        .get("/items", at("all"))
        .post("/items", at("make"))
        .get("/items/{id}", at("one"))
        .get("/items/new", at("blank"))
        .get("/files/{*rest}", at("file"))
        .any("/echo", at("echo"))
        .nest(
            "/admin",
            Router::new()
                .get("/", at("admin"))
                .delete("/{user}", at("ban")),
        )
}

fn ask(router: &Router, method: &str, path: &str) -> (u16, String, Option<String>) {
    let request = Request::new(method.into(), Some(path.into()), Vec::new(), Vec::new());
    let response = router.answer(request);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a text");
    let mut headers = response.headers.into_iter();
    let allow = headers.find(|(name, _)| name == "allow");
    (
        response.status,
        text(response.body),
        allow.map(|(_, value)| text(value)),
    )
}

fn text(method: &str, path: &str) -> String {
    let (status, text, _) = ask(&shop(), method, path);
    assert_eq!(status, 200, "{text}");
    text
}

#[test]
fn a_literal_segment_takes_precedence_over_a_parameter() {
    assert_eq!(text("GET", "/items/7"), "one: /items/7 id=7");
    assert_eq!(text("GET", "/items/new"), "blank: /items/new");
    assert_eq!(text("GET", "/items/news"), "one: /items/news id=news");
    assert_eq!(text("GET", "/?a=b"), "front: /");
}

#[test]
fn parameters_are_percent_decoded_and_split_by_the_slashes_that_were_sent() {
    assert_eq!(text("GET", "/items/a%2Fb"), "one: /items/a%2Fb id=a/b");
    assert_eq!(
        text("GET", "/files/a/b%20c"),
        "file: /files/a/b%20c rest=a/b c"
    );
}

#[test]
fn the_method_decides_among_the_routes_of_a_path() {
    assert_eq!(text("POST", "/items"), "make: /items");
    assert_eq!(text("HEAD", "/items"), "all: /items");
    assert_eq!(text("PURGE", "/echo"), "echo: /echo");
}

#[test]
fn another_method_is_405_and_names_those_that_are_allowed() {
    let (status, _, allow) = ask(&shop(), "DELETE", "/items");
    assert_eq!((status, allow.as_deref()), (405, Some("GET, POST, HEAD")));
    let (status, _, allow) = ask(&shop(), "HEAD", "/admin/ada");
    assert_eq!((status, allow.as_deref()), (405, Some("DELETE")));
}

#[test]
fn an_unknown_path_is_404_or_answered_by_the_fallback() {
    for path in ["/item", "/items/", "/items/7/8", "/admin/"] {
        assert_eq!(ask(&shop(), "GET", path).0, 404, "{path}");
    }
    let shop = shop().fallback(|request: Request| (404, format!("no {}", request.path())));
    assert_eq!(
        ask(&shop, "GET", "/item"),
        (404, "no /item".to_owned(), None)
    );
    assert_eq!(ask(&shop, "DELETE", "/items").0, 405);
}

#[test]
fn nested_routes_are_below_their_prefix() {
    assert_eq!(text("GET", "/admin"), "admin: /admin");
    assert_eq!(text("DELETE", "/admin/ada"), "ban: /admin/ada user=ada");
}

#[test]
fn a_later_route_replaces_the_same_one() {
    let router = shop().get("/items", at("newer"));
    assert_eq!(ask(&router, "GET", "/items").1, "newer: /items");
    assert_eq!(ask(&router, "POST", "/items").1, "make: /items");
}

#[test]
#[should_panic(expected = "the route `/items{id}` has a brace that is not a whole segment")]
fn adding_a_route_with_an_invalid_pattern_panics() {
    let _ = shop().get("/items{id}", at("other"));
}

#[test]
fn routes_of_one_path_may_name_its_parameters_differently() {
    let router = shop().delete("/items/{name}", at("gone"));
    assert_eq!(
        ask(&router, "DELETE", "/items/7").1,
        "gone: /items/7 name=7"
    );
    assert_eq!(ask(&router, "GET", "/items/7").1, "one: /items/7 id=7");
    let (status, _, allow) = ask(&router, "PUT", "/items/7");
    assert_eq!((status, allow.as_deref()), (405, Some("GET, DELETE, HEAD")));
}

#[test]
fn an_asynchronous_handler_is_found_by_the_same_patterns() {
    async fn later(request: Request) -> Result<String, Error> {
        Ok(format!("later: {}", request.param::<u64>("id")?))
    }
    let router = Router::new_async().get("/items/{id}", later);
    let request = Request::new(
        "GET".into(),
        Some("/items/7".into()),
        Vec::new(),
        Vec::new(),
    );
    let answer = std::pin::pin!(router.answer(request));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(response) = answer.poll(&mut context) else {
        panic!("nothing to wait for");
    };
    assert_eq!(response.body, b"later: 7");
}
