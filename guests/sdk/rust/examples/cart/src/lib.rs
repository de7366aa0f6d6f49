//! A shopping cart: typed entries of the session.

use cloakroom_guest::session::Key;
use cloakroom_guest::{Error, IntoResponse, Json, Request, Response, Router, handler};
use serde::{Deserialize, Serialize};

handler!(routes);

/// The session contains it as `"cart":{"lines":[{"item":"umbrella","count":2}]}`. Express reads it as `req.session.cart`.
const CART: Key<Cart> = Key::new("cart");

/// The items in the visitor's cart.
#[derive(Default, Serialize, Deserialize)]
struct Cart {
    lines: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    item: String,
    count: u32,
}

impl Cart {
    fn add(&mut self, item: String) {
        match self.lines.iter_mut().find(|line| line.item == item) {
            Some(line) => line.count += 1,
            None => self.lines.push(Line { item, count: 1 }),
        }
    }
}

fn routes() -> Router {
    Router::new().nest(
        "/cart",
        Router::new()
            .get("/", show)
            .post("/{item}", add)
            .delete("/{item}", remove)
            .post("/checkout", check_out),
    )
}

fn show(_request: Request) -> Result<Json<Cart>, Error> {
    Ok(Json(CART.get()?.unwrap_or_default()))
}

/// Parallel requests lose no change: the host runs the slower one again on the session that the faster one has stored.
fn add(request: Request) -> Result<Response, Error> {
    let item = request.param("item")?;
    CART.update(|cart| cart.add(item))?;
    Ok(Response::see_other("/cart"))
}

fn remove(request: Request) -> Result<Option<()>, Error> {
    let item: String = request.param("item")?;
    let was_there = CART.update(|cart| {
        let before = cart.lines.len();
        cart.lines.retain(|line| line.item != item);
        cart.lines.len() < before
    })?;
    // `None` is a 404, `Some(())` a 204.
    Ok(was_there.then_some(()))
}

/// Empties the cart and returns its content.
fn check_out(_request: Request) -> Result<impl IntoResponse, Error> {
    match CART.take()? {
        Some(cart) => Ok((201, Json(cart))),
        None => Err(Error::new(409, "the cart is empty")),
    }
}
