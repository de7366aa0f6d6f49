//! The host side of `cloakroom:http/session`. Each call goes to the [`Session`] of the request that the store serves.
//!
//! The WIT functions are synchronous, so that the tools of every language can call them. The host's functions are
//! async: a call that waits for the store (the first one, `save`, `reload`) suspends the guest and blocks no thread.

use std::future::poll_fn;
use std::task::Poll;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::bindings::session::{CookieAttributes, Error, Host, add_to_linker};
use super::denials::GrantDenial;
use crate::interfaces::context::GuestContext;
use crate::run::error::SessionInterrupt;
use crate::run::request_state::RequestState;
use cloakroom_session as session;
use cloakroom_session::record;
use cloakroom_session::{Session, SessionCallError};

/// The interface's name in a component's imports, without the version.
pub(crate) const INTERFACE: &str = "cloakroom:http/session";

/// Adds the interface to the linker.
///
/// # Errors
/// Returns an error if it was added before.
pub(crate) fn link(linker: &mut Linker<GuestContext>) -> Result<()> {
    add_to_linker::<GuestContext, HasSelf<RequestState>>(linker, |context| &mut context.caller)
}

type Answer<T> = Result<Result<T, Error>>;

impl Host for RequestState {
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

    async fn set_max_age(&mut self, milliseconds: Option<i64>) -> Answer<()> {
        self.answer(self.changing().await.set_max_age(milliseconds).await)
    }
}

impl RequestState {
    /// Returns the session for a call that changes it. It first yields once, so that the driver sees the body bytes
    /// that were written before the call.
    ///
    /// A guest can run ahead of the task that takes its body. Without the yield, a change after the bytes that release
    /// a response would be committed or refused depending on timing.
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

    fn answer<T>(&self, result: std::result::Result<T, SessionCallError>) -> Answer<T> {
        match result {
            Ok(value) => Ok(Ok(value)),
            Err(SessionCallError::Guest(error)) => Ok(Err(match error {
                session::SessionError::Denied(denial) => {
                    self.account.denied(&GrantDenial::Session(&denial));
                    Error::Denied(denial.to_string())
                }
                session::SessionError::Invalid(what) => Error::Invalid(what),
                session::SessionError::TooLarge(bytes_max) => Error::TooLarge(bytes_max),
                session::SessionError::Committed => Error::Committed,
                session::SessionError::Unavailable(what) => Error::Unavailable(what),
            })),
            Err(SessionCallError::Interrupted) => Err(SessionInterrupt.into()),
        }
    }
}

fn cookie_attributes(attributes: record::CookieAttributes) -> CookieAttributes {
    CookieAttributes {
        original_max_age: attributes.original_max_age_ms,
        expires: attributes.expires_at_ms,
        path: attributes.path,
        domain: attributes.domain,
        http_only: attributes.http_only,
        secure: attributes.secure,
        same_site: attributes.same_site.map(|same_site| {
            let name = match same_site {
                record::SameSite::Strict => "strict",
                record::SameSite::Lax => "lax",
                record::SameSite::None => "none",
            };
            name.to_owned()
        }),
        partitioned: attributes.partitioned,
        priority: attributes.priority.map(|priority| {
            let name = match priority {
                record::Priority::Low => "low",
                record::Priority::Medium => "medium",
                record::Priority::High => "high",
            };
            name.to_owned()
        }),
    }
}
