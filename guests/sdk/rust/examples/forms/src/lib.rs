//! A guest book for one visitor: a form, a redirect, and a message on the next page.

use cloakroom_guest::{Error, Html, Request, Response, Router, flash, handler, session};
use serde::Deserialize;

handler!(routes);

/// The form's fields. The browser sends `topics` once for each ticked box.
#[derive(Deserialize)]
struct Entry {
    text: String,
    #[serde(default)]
    topics: Vec<String>,
}

fn routes() -> Router {
    Router::new().get("/book", page).post("/book", write)
}

/// Shows each message once. A reload does not show it again.
fn page(_request: Request) -> Result<Html<String>, Error> {
    let messages = flash::take_all()?.into_iter();
    let messages = messages.flat_map(|(kind, texts)| {
        let line = move |text: String| format!("<p class=\"{kind}\">{}</p>\n", escaped(&text));
        texts.into_iter().map(line)
    });
    let entries: Vec<String> = session::get("entries")?.unwrap_or_default();
    let entries = entries
        .iter()
        .map(|text| format!("<li>{}</li>\n", escaped(text)));
    Ok(Html(format!(
        "{}<ul>\n{}</ul>\n<form method=\"post\"><input name=\"text\"><button>Write</button></form>\n",
        messages.collect::<String>(),
        entries.collect::<String>(),
    )))
}

/// Responds with a redirect, so that a reload does not write the entry again.
fn write(request: Request) -> Result<Response, Error> {
    let entry: Entry = request.form()?;
    if entry.text.trim().is_empty() {
        flash::push("error", "Write something first.")?;
        return Ok(Response::see_other("/book"));
    }
    let line = match entry.topics.as_slice() {
        [] => entry.text,
        topics => format!("{} ({})", entry.text, topics.join(", ")),
    };
    session::update("entries", |entries: &mut Vec<String>| entries.push(line))?;
    flash::push("info", "Thank you.")?;
    Ok(Response::see_other("/book"))
}

/// Escapes a text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
