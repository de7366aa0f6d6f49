//! The key of an entry together with the type of its value.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// The key of an entry whose value is a `T`. It is defined once, so all uses agree on the spelling and the type.
///
/// ```no_run
/// use cloakroom_guest::session::Key;
///
/// const VISITS: Key<u64> = Key::new("visits");
///
/// let visits = VISITS.get()?.unwrap_or(0);
/// VISITS.set(&(visits + 1))?;
/// # Ok::<(), cloakroom_guest::session::Error>(())
/// ```
pub struct Key<T> {
    name: &'static str,
    value: PhantomData<fn(T) -> T>,
}

impl<T> Key<T> {
    /// Creates a key with this name: 1 to 256 bytes, and none of the names that express-session reserves.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }

    /// Returns the name of the entry in the session.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Removes the entry; see [`session::delete`](super::delete).
    ///
    /// # Errors
    /// As [`session::delete`](super::delete).
    pub fn delete(&self) -> Result<(), Error> {
        super::delete(self.name)
    }
}

impl<T: Serialize + DeserializeOwned> Key<T> {
    /// Returns the value, or `None` if there is no entry; see [`session::get`](super::get).
    ///
    /// # Errors
    /// As [`session::get`](super::get).
    pub fn get(&self) -> Result<Option<T>, Error> {
        super::get(self.name)
    }

    /// Writes the value; see [`session::set`](super::set).
    ///
    /// # Errors
    /// As [`session::set`](super::set).
    pub fn set(&self, value: &T) -> Result<(), Error> {
        super::set(self.name, value)
    }

    /// Removes the entry and returns its value; see [`session::take`](super::take).
    ///
    /// # Errors
    /// As [`session::take`](super::take).
    pub fn take(&self) -> Result<Option<T>, Error> {
        super::take(self.name)
    }

    /// Changes the value in place; see [`session::update`](super::update). Fields that `T` does not name are dropped,
    /// unless `T` [keeps them](super#what-a-type-keeps-of-a-value).
    ///
    /// # Errors
    /// As [`session::update`](super::update).
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R, Error>
    where
        T: Default,
    {
        super::update(self.name, change)
    }
}

impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.name).finish()
    }
}
