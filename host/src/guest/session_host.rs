//! `cloakroom:http/session` as guests call it: each call goes to the [`Session`] of the request that the store runs.
//!
//! The WIT functions are plain, so that every language's tools can call them; the host's side is async: a call that has to wait
//! for the store (the first one, `save`, `reload`) suspends the guest and blocks no thread.

use std::future::poll_fn;
use std::task::Poll;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::session::{CookieAttributes, Error, Host, Lifetime, add_to_linker};
use super::caller::Caller;
use super::context::Context;
use super::denials::Denial;
use super::error::SessionInterrupt;
use crate::record;
use crate::session::{self, CallError, Session};

/// What the interface is called in a component's imports, without its version.
pub(super) const INTERFACE: &str = "cloakroom:http/session";

/// Offers the interface to guests.
///
/// # Errors
/// When it was offered before.
pub(super) fn link(linker: &mut Linker<Context>) -> Result<()> {
    add_to_linker::<Context, HasSelf<Caller>>(linker, |context| &mut context.caller)
}

type Answer<T> = Result<Result<T, Error>>;

impl Host for Caller {
    async fn get(&mut self, key: String) -> Answer<Option<String>> {
        self.answer(self.session.get(&key).await)
    }

    async fn set(&mut self, key: String, value: String) -> Answer<()> {
        self.answer(self.changing().await.set(&key, &value).await)
    }

    async fn delete(&mut self, key: String) -> Answer<()> {
        self.answer(self.changing().await.delete(&key).await)
    }

    async fn list_keys(&mut self) -> Answer<Vec<String>> {
        self.answer(self.session.list_keys().await)
    }

    async fn add(&mut self, key: String, delta: i64) -> Answer<()> {
        self.answer(self.changing().await.add(&key, delta).await)
    }

    async fn increment(&mut self, key: String, delta: i64) -> Answer<i64> {
        self.answer(self.changing().await.increment(&key, delta).await)
    }

    async fn clear(&mut self) -> Answer<()> {
        self.answer(self.changing().await.clear().await)
    }

    async fn fingerprint(&mut self) -> Answer<Option<String>> {
        self.answer(self.session.fingerprint().await)
    }

    async fn renew(&mut self) -> Answer<()> {
        self.answer(self.changing().await.renew().await)
    }

    async fn regenerate(&mut self) -> Answer<()> {
        self.answer(self.changing().await.regenerate().await)
    }

    async fn destroy(&mut self) -> Answer<()> {
        self.answer(self.changing().await.destroy().await)
    }

    async fn save(&mut self) -> Answer<()> {
        self.answer(self.changing().await.save().await)
    }

    async fn reload(&mut self) -> Answer<()> {
        self.answer(self.changing().await.reload().await)
    }

    async fn touch(&mut self) -> Answer<()> {
        self.answer(self.changing().await.touch().await)
    }

    async fn unset(&mut self) -> Answer<()> {
        self.answer(self.changing().await.unset().await)
    }

    async fn cookie(&mut self) -> Answer<CookieAttributes> {
        self.answer(self.session.cookie().await.map(cookie_attributes))
    }

    async fn set_max_age(&mut self, lifetime: Lifetime) -> Answer<()> {
        self.answer(self.changing().await.set_max_age(lifetime).await)
    }
}

impl Caller {
    /// The session, for a call that changes it: first lets the driver see what of the body was written before.
    ///
    /// A guest runs ahead of whoever takes its body. Without this, a change behind the bytes that release an answer would
    /// be committed or refused by how the two happened to meet.
    async fn changing(&self) -> &Session {
        if self.has_answered.is_set() {
            let mut has_waited = false;
            poll_fn(|cx| {
                if std::mem::replace(&mut has_waited, true) {
                    return Poll::Ready(());
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
        &self.session
    }

    fn answer<T>(&self, result: std::result::Result<T, CallError>) -> Answer<T> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(CallError::Guest(error)) => Ok(Err(match error {
                session::Error::Denied(denial) => {
                    self.account.denied(&Denial::Session(&denial));
                    Error::Denied(denial.to_string())
                }
                session::Error::Invalid(what) => Error::Invalid(what),
                session::Error::TooLarge(bytes_max) => Error::TooLarge(bytes_max),
                session::Error::Committed => Error::Committed,
                session::Error::Unavailable(what) => Error::Unavailable(what),
            })),
            Err(CallError::Interrupted) => Err(SessionInterrupt.into()),
        }
    }
}

fn cookie_attributes(attributes: record::CookieAttributes) -> CookieAttributes {
    CookieAttributes {
        original_max_age: attributes.original_max_age_ms,
        expires: attributes.expires_at_ms,
        domain: attributes.domain,
        path: attributes.path,
        http_only: attributes.http_only,
        secure: attributes.secure,
        partitioned: attributes.partitioned,
        priority: attributes.priority.map(Into::into),
        same_site: attributes.same_site.map(Into::into),
    }
}
