//! An entry's key together with the type of its value.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// The key of an entry whose value is a `T`: named once, so that no two places disagree about the spelling or the type.
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
    /// The key of this name: 1 to 256 bytes, none of the names that express-session keeps for itself.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            value: PhantomData,
        }
    }

    /// Its name in the session.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Removes the entry; see [`session::delete`](super::delete).
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self) -> Result<(), Error> {
        super::delete(self.name)
    }
}

impl<T: Serialize + DeserializeOwned> Key<T> {
    /// The value, `None` if there is none; see [`session::get`](super::get).
    ///
    /// # Errors
    /// As there.
    pub fn get(&self) -> Result<Option<T>, Error> {
        super::get(self.name)
    }

    /// Writes the value; see [`session::set`](super::set).
    ///
    /// # Errors
    /// As there.
    pub fn set(&self, value: &T) -> Result<(), Error> {
        super::set(self.name, value)
    }

    /// Removes the entry and returns what it was; see [`session::take`](super::take).
    ///
    /// # Errors
    /// As there.
    pub fn take(&self) -> Result<Option<T>, Error> {
        super::take(self.name)
    }

    /// Changes the value in place; see [`session::update`](super::update). Fields that `T` does not name are dropped, unless it
    /// [keeps them](super#what-a-type-keeps-of-a-value).
    ///
    /// # Errors
    /// As there.
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
