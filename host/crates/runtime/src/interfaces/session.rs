//! The interface `cloakroom:http/session`. Each call goes to the [`Session`] of the request that the instance serves.
//!
//! The WIT functions are synchronous, so that the tools of every language can call them. The host's functions are
//! async: a call that waits for the store (the first one, `save`, `reload`) suspends the guest and blocks no thread.

use std::future::poll_fn;
use std::task::Poll;

use wasmtime::Result;
use wasmtime::component::{HasSelf, Linker};

use super::accounting::RequestAccounting;
use super::bindings::session::{CookieAttributes, Error, Host, Lifetime, add_to_linker};
use super::denials::GrantDenial;
use super::head_set::HeadSet;
use super::{GrantSummary, GrantValue, GuestGrants, RunParts};
use cloakroom_session as session;
use cloakroom_session::record;
use cloakroom_session::{Session, SessionAccessLevel, SessionCallError, SessionDenial};

/// The interface's name in a component's imports, without the version.
pub(crate) const NAME: &str = "cloakroom:http/session";

/// The names of its grants in metrics and logs.
pub(crate) const GRANTS: [&str; 3] = ["session", "read_keys", "write_keys"];

/// The error that a session call returns to stop its run. It passes through wasm as a trap.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the session stopped the run")]
pub(crate) struct SessionInterrupt;

/// The state of one request.
pub(crate) struct SessionState {
    session: Session,
    has_answered: HeadSet,
    accounting: RequestAccounting,
}

/// Adds the interface to the linker.
///
/// # Errors
/// Returns an error if it was added before.
pub(crate) fn link<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> &mut SessionState,
) -> Result<()> {
    add_to_linker::<T, HasSelf<SessionState>>(linker, state)
}

/// Summarizes the grants of a guest on its visitors' sessions.
pub(crate) fn granted(grants: &GuestGrants) -> GrantSummary {
    let grant = &grants.session;
    let keys = |patterns: &session::KeyPatterns| patterns.texts().collect::<Vec<_>>();
    let (read_keys, write_keys) = (keys(&grant.read_keys), keys(&grant.write_keys));
    let shown = |keys: &[String]| match keys {
        [] => "every key".to_owned(),
        keys => keys.join(", "),
    };
    let (word, line) = match grant.access {
        SessionAccessLevel::None => ("none", "none".to_owned()),
        SessionAccessLevel::Read => ("read", format!("read ({})", shown(&read_keys))),
        SessionAccessLevel::Write => {
            let (reads, writes) = (shown(&read_keys), shown(&write_keys));
            ("write", format!("write (reads {reads}, writes {writes})"))
        }
    };
    let is_missing = grant.access == SessionAccessLevel::None;
    GrantSummary {
        keys: vec![
            ("session", GrantValue::Word(word)),
            ("read_keys", GrantValue::List(read_keys)),
            ("write_keys", GrantValue::List(write_keys)),
        ],
        lines: Some(("session", vec![line])),
        missing: is_missing.then_some("session is \"none\": every call is denied"),
    }
}

type Answer<T> = Result<Result<T, Error>>;

impl Host for SessionState {
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

impl SessionState {
    pub(crate) fn of(run: &RunParts<'_>) -> Self {
        Self {
            session: run.session.clone(),
            has_answered: run.has_answered.clone(),
            accounting: run.accounting.clone(),
        }
    }

    /// Returns the state of an instance that runs no request. Its calls are denied.
    pub(crate) fn none(accounting: RequestAccounting) -> Self {
        Self {
            session: Session::none(),
            has_answered: HeadSet::default(),
            accounting,
        }
    }

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
                    self.accounting.denied(&denial);
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

impl GrantDenial for SessionDenial {
    fn grant(&self) -> &'static str {
        match self {
            Self::NoAccess | Self::OutsidePath | Self::ReadOnly => "session",
            Self::ReadKey(_) => "read_keys",
            Self::WriteKey(_) | Self::WriteEvery(_) => "write_keys",
        }
    }

    fn call(&self) -> String {
        let call = match self {
            Self::NoAccess => "the session",
            Self::OutsidePath => "the session outside of its cookie's path",
            Self::ReadOnly => "a change of the session",
            Self::ReadKey(_) => "reading a key of the session",
            Self::WriteKey(_) => "writing a key of the session",
            Self::WriteEvery(operation) => {
                return format!("`{operation}`, which writes every key of the session");
            }
        };
        call.to_owned()
    }

    fn remedy(&self, guest: &str) -> String {
        let own = |key: &str| format!("guest.{guest}.{key}");
        match self {
            Self::NoAccess => own("session = \"read\" or \"write\""),
            Self::OutsidePath => "another session.cookie.path".to_owned(),
            Self::ReadOnly => own("session = \"write\""),
            Self::ReadKey(_) => own("read_keys with this key"),
            Self::WriteKey(_) => own("write_keys with this key"),
            Self::WriteEvery(_) => own("write_keys left out"),
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

#[cfg(test)]
mod tests {
    use super::super::denials::assert_denial;
    use super::*;

    #[test]
    fn every_session_denial_names_its_grant_and_remedy_but_no_key() {
        let key = || "hunter2".to_owned();
        let cases = [
            (SessionDenial::NoAccess, "session", "guest.a.session"),
            (SessionDenial::OutsidePath, "session", "session.cookie.path"),
            (SessionDenial::ReadOnly, "session", "guest.a.session"),
            (
                SessionDenial::ReadKey(key()),
                "read_keys",
                "guest.a.read_keys",
            ),
            (
                SessionDenial::WriteKey(key()),
                "write_keys",
                "guest.a.write_keys",
            ),
            (
                SessionDenial::WriteEvery("clear"),
                "write_keys",
                "guest.a.write_keys",
            ),
        ];
        for (denial, grant, remedy) in cases {
            assert_denial(&denial, grant, remedy);
        }
    }
}
