//! The guests by name. A guest can be replaced while it serves: who has taken one keeps it until the request is done.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::Guest;

/// All guests of a host.
#[derive(Debug, Default)]
pub struct GuestRegistry(ArcSwap<HashMap<String, Arc<Guest>>>);

impl GuestRegistry {
    /// A registry of these guests, each under its own name; of two with one name the later stays.
    pub fn new(guests: impl IntoIterator<Item = Guest>) -> Self {
        let guests = guests
            .into_iter()
            .map(|guest| (guest.name().to_owned(), Arc::new(guest)))
            .collect();
        Self(ArcSwap::from_pointee(guests))
    }

    /// The guest of a name, as it is now.
    pub fn get(&self, name: &str) -> Option<Arc<Guest>> {
        self.0.load().get(name).cloned()
    }

    /// Puts a guest in the place of the one with its name, or adds it. Requests that run stay with the old one.
    pub fn replace(&self, guest: Guest) {
        let guest = Arc::new(guest);
        self.0.rcu(|guests| {
            let mut guests = HashMap::clone(guests);
            guests.insert(guest.name().to_owned(), Arc::clone(&guest));
            guests
        });
    }

    /// The names of all guests, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.load().keys().cloned().collect();
        names.sort_unstable();
        names
    }
}
