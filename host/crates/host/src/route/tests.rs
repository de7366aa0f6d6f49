//! Tests of the lookups in a route table, and of the routes that it refuses.

use super::*;

fn route(path: &str, guest: &str) -> Route {
    Route {
        path: path.to_owned(),
        methods: Vec::new(),
        host: None,
        target: Target::Guest(guest.to_owned()),
    }
}

fn only(methods: &[Method], route: Route) -> Route {
    Route {
        methods: methods.to_vec(),
        ..route
    }
}

fn on(host: &str, route: Route) -> Route {
    Route {
        host: Some(host.to_owned()),
        ..route
    }
}

fn answer(table: &RouteTable, host: &str, method: Method, path: &str) -> String {
    match table.find(host, &method, path) {
        RouteMatch::Route { route, parameters } => {
            let parameters: Vec<String> = parameters
                .iter()
                .map(|(k, v)| format!(" {k}={v}"))
                .collect();
            let Target::Guest(guest) = &route.target;
            format!("{guest}{}", parameters.concat())
        }
        RouteMatch::NotFound => "404".to_owned(),
        RouteMatch::MethodNotAllowed { allow } => format!("405 {}", allow.to_str().unwrap()),
    }
}

fn get(table: &RouteTable, path: &str) -> String {
    answer(table, "localhost:3000", Method::GET, path)
}

#[test]
fn parameters_are_handed_on() {
    let table = RouteTable::new(vec![route("/user/{id}/post/{post}", "blog")]).unwrap();
    assert_eq!(get(&table, "/user/7/post/a%2Fb"), "blog id=7 post=a%2Fb");
    assert_eq!(get(&table, "/user/7"), "404");
}

#[test]
fn a_catch_all_takes_its_bare_prefix_too() {
    let table = RouteTable::new(vec![route("/files/{*rest}", "files")]).unwrap();
    assert_eq!(get(&table, "/files"), "files");
    assert_eq!(get(&table, "/files/"), "files");
    assert_eq!(get(&table, "/files/a/b"), "files rest=a/b");
    assert_eq!(get(&table, "/filesystem"), "404");
}

#[test]
fn a_catch_all_at_the_root_takes_the_root() {
    let table = RouteTable::new(vec![route("/{*rest}", "all")]).unwrap();
    assert_eq!(get(&table, "/"), "all");
    assert_eq!(get(&table, "/x"), "all rest=x");
}

#[test]
fn an_explicit_route_takes_precedence_over_a_bare_prefix() {
    let table = RouteTable::new(vec![
        route("/session/{*rest}", "below"),
        only(&[Method::GET], route("/session", "at")),
    ])
    .unwrap();
    assert_eq!(get(&table, "/session"), "at");
    assert_eq!(answer(&table, "h", Method::POST, "/session"), "below");
    assert_eq!(get(&table, "/session/delete"), "below rest=delete");
}

#[test]
fn a_parameter_beside_a_bare_prefix_is_no_conflict() {
    let table = RouteTable::new(vec![
        route("/{page}", "page"),
        route("/files/{*rest}", "files"),
    ])
    .unwrap();
    assert_eq!(get(&table, "/files"), "files");
    assert_eq!(get(&table, "/other"), "page page=other");
}

#[test]
fn methods_choose_among_routes_of_one_path() {
    let table = RouteTable::new(vec![
        only(&[Method::GET], route("/a", "reader")),
        only(&[Method::POST, Method::PUT], route("/a", "writer")),
    ])
    .unwrap();
    assert_eq!(get(&table, "/a"), "reader");
    assert_eq!(answer(&table, "h", Method::PUT, "/a"), "writer");
    assert_eq!(
        answer(&table, "h", Method::DELETE, "/a"),
        "405 GET, HEAD, POST, PUT"
    );
    assert_eq!(
        answer(&table, "h", Method::OPTIONS, "/a"),
        "405 GET, HEAD, POST, PUT"
    );
}

#[test]
fn get_routes_answer_head() {
    let table = RouteTable::new(vec![only(&[Method::GET], route("/a", "reader"))]).unwrap();
    assert_eq!(answer(&table, "h", Method::HEAD, "/a"), "reader");
    let table = RouteTable::new(vec![only(&[Method::POST], route("/a", "writer"))]).unwrap();
    assert_eq!(answer(&table, "h", Method::HEAD, "/a"), "405 POST");
}

#[test]
fn a_route_without_methods_answers_options_and_unheard_of_ones() {
    let table = RouteTable::new(vec![route("/a", "any")]).unwrap();
    assert_eq!(answer(&table, "h", Method::OPTIONS, "/a"), "any");
    assert_eq!(
        answer(&table, "h", Method::from_bytes(b"PURGE").unwrap(), "/a"),
        "any"
    );
}

#[test]
fn a_route_for_the_host_is_preferred_over_routes_for_any_host() {
    let table = RouteTable::new(vec![
        on(
            "Shop.example:443",
            only(&[Method::GET], route("/a", "shop")),
        ),
        route("/a", "any"),
        route("/b", "any"),
    ])
    .unwrap();
    assert_eq!(
        answer(&table, "shop.EXAMPLE:8080", Method::GET, "/a"),
        "shop"
    );
    assert_eq!(answer(&table, "shop.example", Method::POST, "/a"), "any");
    assert_eq!(answer(&table, "shop.example", Method::GET, "/b"), "any");
    assert_eq!(answer(&table, "other.example", Method::GET, "/a"), "any");
    assert_eq!(answer(&table, "[::1]:3000", Method::GET, "/a"), "any");
}

#[test]
fn the_most_specific_path_wins() {
    let table = RouteTable::new(vec![
        route("/{*rest}", "all"),
        route("/user/{id}", "user"),
        route("/user/me", "me"),
    ])
    .unwrap();
    assert_eq!(get(&table, "/user/me"), "me");
    assert_eq!(get(&table, "/user/you"), "user id=you");
    assert_eq!(get(&table, "/user/you/x"), "all rest=user/you/x");
}

#[test]
fn patterns_are_compared_in_normal_form() {
    let table = RouteTable::new(vec![route("/카페", "cafe")]).unwrap();
    assert_eq!(get(&table, "/%EC%B9%B4%ED%8E%98"), "cafe");
}

#[test]
fn all_faults_are_reported_with_both_routes_named() {
    let errors = RouteTable::new(vec![
        route("/a", "one"),
        only(&[Method::GET], route("/a", "two")),
        route("/user/{id}", "three"),
        route("/user/{name}", "four"),
        route("no-slash", "five"),
        route("/{*rest}/more", "six"),
    ])
    .unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert!(
        texts.contains(&"route 1 (`/a`) and route 0 (`/a`) answer the same requests".to_owned()),
        "{texts:?}"
    );
    assert!(
        texts.contains(
            &"route 3 (`/user/{name}`) and route 2 (`/user/{id}`) answer the same requests"
                .to_owned()
        ),
        "{texts:?}"
    );
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("route 4: path `no-slash`")),
        "{texts:?}"
    );
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("route 5: path `/{*rest}/more`")),
        "{texts:?}"
    );
    assert_eq!(errors.len(), 4, "{texts:?}");
}
