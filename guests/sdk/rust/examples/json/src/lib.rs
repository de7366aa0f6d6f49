//! A list of notes over JSON: bodies, queries, and errors that become responses.

use cloakroom_guest::session::Key;
use cloakroom_guest::{Error, IntoResponse, Json, Request, Router, handler};
use serde::{Deserialize, Serialize};

handler!(routes);

const NOTES: Key<Vec<Note>> = Key::new("notes");

#[derive(Clone, Serialize, Deserialize)]
struct Note {
    title: String,
    #[serde(default)]
    done: bool,
}

/// The query `?page=2&per_page=10`.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    page: usize,
    #[serde(default = "per_page")]
    per_page: usize,
}

fn per_page() -> usize {
    20
}

fn routes() -> Router {
    Router::new()
        .get("/notes", list)
        .post("/notes", make)
        .get("/notes/{index}", show)
        .put("/notes/{index}", change)
        .fallback(|_: Request| (404, Json("no such resource")))
}

fn list(request: Request) -> Result<Json<Vec<Note>>, Error> {
    let Page { page, per_page } = request.query_as()?;
    let notes = NOTES.get()?.unwrap_or_default().into_iter();
    Ok(Json(notes.skip(page * per_page).take(per_page).collect()))
}

fn make(request: Request) -> Result<impl IntoResponse, Error> {
    let note: Note = request.json()?;
    if note.title.is_empty() {
        return Err(Error::new(422, "a note needs a title"));
    }
    let index = NOTES.update(|notes| {
        notes.push(note.clone());
        notes.len() - 1
    })?;
    let made = (201, Json(note)).into_response();
    Ok(made.header("location", &format!("/notes/{index}")))
}

fn show(request: Request) -> Result<Option<Json<Note>>, Error> {
    let index: usize = request.param("index")?;
    let notes = NOTES.get()?.unwrap_or_default();
    Ok(notes.into_iter().nth(index).map(Json))
}

fn change(request: Request) -> Result<(), Error> {
    let index: usize = request.param("index")?;
    let note: Note = request.json()?;
    NOTES.update(|notes| match notes.get_mut(index) {
        Some(known) => {
            *known = note;
            Ok(())
        }
        None => Err(Error::not_found()),
    })?
}
