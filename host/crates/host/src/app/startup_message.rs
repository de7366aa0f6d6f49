//! The message that the host prints when it is ready: its address, and where sessions are stored. The message never contains
//! the database user.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Method;

use crate::config::Config;
use crate::route::{Route, RouteMatch, RouteTable, path};

/// The startup message without the address, which is known only once the host listens.
#[derive(Clone, Debug)]
pub struct StartupMessage {
    /// A path that a first-time visitor can open. `None` if every route requires a specific host name or a method other than
    /// GET.
    path: Option<String>,
    sessions: String,
}

impl StartupMessage {
    /// Creates the message from the configuration. `path` is the path to suggest, if the caller knows a good one.
    pub fn new(config: &Config, path: Option<&str>) -> Self {
        Self {
            path: path.map_or_else(|| path_to_try(&config.routes), |path| Some(path.to_owned())),
            sessions: config.store.backend.place(),
        }
    }

    /// Returns the complete text, without a line end, for a host that listens on `address` and has its admin interface on
    /// `admin`.
    pub fn text(&self, address: SocketAddr, admin: Option<SocketAddr>) -> String {
        let (open, port) = (openable(address), address.port());
        let path = self.path.as_deref().unwrap_or_default();
        let mut lines = vec![format!(
            "cloakroom {} serves http://{open}{path}",
            env!("CARGO_PKG_VERSION")
        )];
        if open != address {
            lines.push(format!(
                "It listens on all addresses of this machine, port {port}."
            ));
        }
        if self.path.is_some() {
            let url = format!("http://{open}{path}");
            lines.push("Open it in a browser, or call it twice with a cookie jar:".to_owned());
            lines.push(format!("  curl -b cookies.txt -c cookies.txt '{url}'"));
        }
        lines.push(format!("Sessions are kept {}.", self.sessions));
        if let Some(admin) = admin {
            lines.push(format!(
                "The admin interface is http://{}.",
                openable(admin)
            ));
        }
        lines.push("Ctrl-C ends the host.".to_owned());
        lines.join("\n")
    }
}

/// Returns an address that a browser on this machine can open.
fn openable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Returns the first path that GET opens regardless of the host name. Prefers a path without parameters, and otherwise fills in
/// the parameters.
fn path_to_try(routes: &[Route]) -> Option<String> {
    let table = RouteTable::new(routes.to_vec()).ok()?;
    let opens = |path: &String| {
        // No route has an empty host name. A route that is found for it therefore answers for every host name.
        let found = table.find("", &Method::GET, path);
        matches!(found, RouteMatch::Route { .. })
    };
    let candidates = |with: fn(&str) -> Option<String>| {
        routes
            .iter()
            .filter(|route| route.host.is_none())
            .filter_map(move |route| Some(path::normalise(&with(&route.path)?).ok()?.into_owned()))
    };
    candidates(without_parameters)
        .chain(candidates(filled_in))
        .find(opens)
}

/// Returns the path without its parameters. `/files/{*rest}` also matches `/files`, but other parameters require a value.
fn without_parameters(path: &str) -> Option<String> {
    let fixed = match path.rsplit_once("/{*") {
        Some((prefix, _)) => prefix,
        None => path,
    };
    let is_fixed = !fixed.contains(['{', '}']);
    is_fixed.then(|| if fixed.is_empty() { "/" } else { fixed }.to_owned())
}

/// Replaces every parameter by `1`.
fn filled_in(path: &str) -> Option<String> {
    let mut filled = String::new();
    let mut rest = path;
    while let Some((before, from)) = rest.split_once('{') {
        filled.push_str(before);
        filled.push('1');
        rest = from.split_once('}')?.1;
    }
    Some(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CliOptions;
    use crate::route::Target;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn startup_message(store: &str) -> StartupMessage {
        let folder = tempfile::tempdir().unwrap();
        let component = folder.path().join("a.wasm");
        std::fs::write(&component, "").unwrap();
        let cli = CliOptions {
            component: Some(component),
            store: Some(store.to_owned()),
            ..CliOptions::default()
        };
        let variables = [("CLOAKROOM_SESSION_SECRETS", SECRET)];
        let config = Config::load(&cli, &variables).expect("a whole configuration");
        StartupMessage::new(&config, None)
    }

    fn route(path: &str, methods: &[Method], host: Option<&str>) -> Route {
        Route {
            path: path.to_owned(),
            methods: methods.to_vec(),
            host: host.map(str::to_owned),
            target: Target::Guest("a".to_owned()),
        }
    }

    #[test]
    fn a_wildcard_address_is_shown_as_a_url_that_opens() {
        let text = |address: &str| startup_message("memory:").text(address.parse().unwrap(), None);
        for (address, shown) in [
            ("0.0.0.0:3000", "http://127.0.0.1:3000/"),
            ("[::]:3000", "http://[::1]:3000/"),
        ] {
            let text = text(address);
            assert!(text.contains(&format!("serves {shown}\n")), "{text}");
            assert!(
                text.contains("all addresses of this machine, port 3000"),
                "{text}"
            );
        }
        let text = text("192.0.2.1:3000");
        assert!(text.contains("http://192.0.2.1:3000/"), "{text}");
        assert!(!text.contains("all addresses"), "{text}");
    }

    #[test]
    fn the_admin_interface_is_named_where_there_is_one() {
        let text = |admin: Option<&str>| {
            let admin = admin.map(|admin| admin.parse().unwrap());
            startup_message("memory:").text("127.0.0.1:3000".parse().unwrap(), admin)
        };
        assert!(text(Some("0.0.0.0:3001")).contains("interface is http://127.0.0.1:3001."));
        assert!(!text(None).contains("admin"));
    }

    #[test]
    fn the_startup_message_names_the_store_but_not_its_account() {
        let address = "127.0.0.1:3000".parse().unwrap();
        for (store, place) in [
            ("memory:", "in memory: they end with this process."),
            ("sqlite:/var/s.sqlite", "in /var/s.sqlite."),
            (
                "mysql://ann:hunter2@db1,[fd00::1]:3307/app",
                "in MySQL at db1:3306 or [fd00::1]:3307, database app, table sessions.",
            ),
        ] {
            let text = startup_message(store).text(address, None);
            assert!(
                text.contains(&format!("Sessions are kept {place}")),
                "{text}"
            );
            assert!(!text.contains("ann") && !text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn the_suggested_path_is_preferably_a_get_route_without_parameters() {
        let get = [Method::GET];
        let cases: [(&[Route], Option<&str>); 6] = [
            (&[route("/session/{*rest}", &[], None)], Some("/session")),
            (&[route("/{*rest}", &[], None)], Some("/")),
            (
                &[
                    route("/shop", &[], Some("shop.example")),
                    route("/form", &[Method::POST], None),
                    route("/user/{id}", &get, None),
                    route("/about", &get, None),
                ],
                Some("/about"),
            ),
            (
                &[
                    route("/a/{*rest}", &get, None),
                    route("/a", &[Method::POST], None),
                ],
                Some("/a"),
            ),
            (&[route("/user/{id}/{tab}", &[], None)], Some("/user/1/1")),
            (
                &[
                    route("/shop", &[], Some("shop.example")),
                    route("/form", &[Method::POST], None),
                ],
                None,
            ),
        ];
        for (routes, expected) in cases {
            assert_eq!(path_to_try(routes).as_deref(), expected, "{routes:?}");
        }
    }

    #[test]
    fn without_a_suitable_path_no_request_is_suggested() {
        let startup_message = StartupMessage {
            path: None,
            ..startup_message("memory:")
        };
        let text = startup_message.text("127.0.0.1:3000".parse().unwrap(), None);
        assert!(text.contains("serves http://127.0.0.1:3000\n"), "{text}");
        assert!(!text.contains("curl"), "{text}");
    }
}
