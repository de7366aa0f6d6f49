//! `[[route]]`: the guests that requests are routed to. Builds the route table once to find its faults.

use http::Method;

use crate::config_reader::Section;
use crate::config_reader::kinds::{ValueError, some_items, text};
use crate::route::{Route, RouteError, RouteTable, Target};

/// Reads every `[[route]]`. `guests` contains the names of the existing guests.
pub(crate) fn read(sections: Vec<Section<'_>>, guests: &[String]) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut whole = Vec::new();
    for mut section in sections {
        let path = section.get("path", text);
        let guest = section.get("guest", text);
        let methods = section
            .get("methods", some_items(method))
            .unwrap_or_default();
        let host = section.get("host", text);
        for key in ["path", "guest"] {
            if section.is_missing(key) {
                let remedy = format!("write {key} = \"...\"");
                section.fault(key, "missing: a route is a path and a guest", remedy);
            }
        }
        if let Some(guest) = guest.as_ref().filter(|guest| !guests.contains(guest)) {
            let problem = format!("there is no guest {guest:?}");
            section.fault("guest", problem, known(guest, guests));
        }
        if let Some(path) = path {
            routes.push(Route {
                path,
                methods,
                host,
                target: Target::Guest(guest.unwrap_or_default()),
            });
            whole.push(section);
        }
    }
    if let Err(errors) = RouteTable::new(routes.clone()) {
        for error in errors {
            explain(&error, &whole);
        }
    }
    routes
}

fn explain(error: &RouteError, sections: &[Section<'_>]) {
    match error {
        RouteError::BadPath {
            route,
            path,
            reason,
        } => sections[*route].fault(
            "path",
            format!("{path:?} is not a valid path: {reason}"),
            "write \"/about\", \"/user/{id}\" for one part, or \"/files/{*rest}\" for a path and all below it",
        ),
        RouteError::Conflict {
            route,
            path,
            other,
            other_path,
        } => sections[*route].fault(
            "path",
            format!(
                "{path:?} answers requests of {other_path:?}, the route of {}",
                sections[*other].origin_of("path")
            ),
            "take one of them out, or tell them apart by methods or host",
        ),
    }
}

fn method(text: &str) -> Result<Method, ValueError> {
    let upper = text.to_ascii_uppercase();
    if upper != text {
        let problem = format!("{text:?} is not a valid method: they are in capitals");
        return Err(ValueError::new(problem, format!("write {upper:?}")));
    }
    text.parse().map_err(|_| {
        let problem = format!("{text:?} is not a valid method");
        ValueError::new(
            problem,
            "write [\"GET\", \"POST\"], or leave it out for all",
        )
    })
}

fn known(wanted: &str, guests: &[String]) -> String {
    let close = |name: &str| strsim::jaro_winkler(name, wanted);
    let best = guests.iter().max_by(|a, b| close(a).total_cmp(&close(b)));
    match best {
        Some(best) if close(best) > 0.8 => format!("did you mean {best:?}?"),
        Some(_) => format!(
            "the guests are {}; or add [guest.{wanted}]",
            guests.join(", ")
        ),
        None => format!("add [guest.{wanted}] with its component"),
    }
}
