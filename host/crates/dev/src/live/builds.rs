//! The build state of each guest, and the page that is served while a guest cannot serve.

use std::collections::HashMap;
use std::sync::Arc;

use http::request::Parts;
use http::{Method, Uri};
use parking_lot::Mutex;

use super::console_layer::{POLL, RequestPaths};
use super::host_check::HostCheck;
use super::page::{self, NoticePage, PageRefresh};
use crate::build::BuildError;
use crate::tools;
use cloakroom_base::clock::Clock;
use cloakroom_host::handler::{HookResponse, RequestHook};
use cloakroom_host::route::Route;
use cloakroom_runtime::Deployment;

/// The build state of a guest. A guest without an entry is not built by this host.
#[derive(Clone, Debug)]
enum BuildState {
    /// The first build is running. A component from an earlier run of the host is not served meanwhile.
    FirstBuild { command: String, since_ms: i64 },
    /// The last build failed. Another attempt does not change the state before it has ended.
    Broken(NoticePage),
    /// The last build produced a component, and its deployment has succeeded or failed.
    Built,
}

/// The guests that this host builds.
#[derive(Debug)]
pub(crate) struct GuestBuilds {
    states: Mutex<HashMap<String, BuildState>>,
    paths: Arc<RequestPaths>,
    clock: Clock,
    callers: HostCheck,
    started_ms: i64,
}

impl GuestBuilds {
    /// Creates an empty set. Requests are recorded in `paths`, and those that `callers` refuses are rejected.
    pub(crate) fn new(paths: Arc<RequestPaths>, clock: Clock, callers: HostCheck) -> Self {
        Self {
            states: Mutex::default(),
            paths,
            started_ms: clock.now_ms(),
            clock,
            callers,
        }
    }

    /// Records that the first build of a guest starts with this command.
    pub(crate) fn set_started(&self, guest: &str, command: &str) {
        let state = BuildState::FirstBuild {
            command: command.to_owned(),
            since_ms: self.clock.now_ms(),
        };
        self.states.lock().insert(guest.to_owned(), state);
    }

    /// Records that the first build of a guest has reached this command.
    pub(crate) fn set_command(&self, guest: &str, command: &str) {
        if let Some(BuildState::FirstBuild { command: shown, .. }) =
            self.states.lock().get_mut(guest)
        {
            *shown = command.to_owned();
        }
    }

    /// Records that the build of a guest failed.
    pub(crate) fn set_failed(&self, guest: &str, error: &BuildError) {
        let notice = NoticePage {
            kind: "build-failed",
            passing: PageRefresh::WhenFixed,
            title: format!("{guest}: {error}"),
            advice: tools::advice(error),
            output: error.output().to_owned(),
            since_ms: self.clock.now_ms(),
        };
        self.states
            .lock()
            .insert(guest.to_owned(), BuildState::Broken(notice));
    }

    /// Records that the build of a guest produced a component.
    pub(crate) fn set_built(&self, guest: &str) {
        self.states
            .lock()
            .insert(guest.to_owned(), BuildState::Built);
    }

    /// Removes a guest that is no longer built by this host.
    pub(crate) fn forget(&self, guest: &str) {
        self.states.lock().remove(guest);
    }

    /// Returns whether the last build of every guest produced a component.
    pub(crate) fn are_all_built(&self) -> bool {
        self.states
            .lock()
            .values()
            .all(|state| matches!(state, BuildState::Built))
    }

    /// Returns the page to serve in place of a guest, if it cannot serve.
    fn notice(&self, deployment: &Deployment) -> Option<NoticePage> {
        let guest = deployment.name();
        let passing = |kind, title, since_ms| NoticePage {
            kind,
            passing: PageRefresh::ByItself,
            title,
            advice: None,
            output: String::new(),
            since_ms,
        };
        match self.states.lock().get(guest) {
            Some(BuildState::FirstBuild { command, since_ms }) => {
                let title = format!("{guest} is being built: `{command}`");
                return Some(passing("building", title, *since_ms));
            }
            Some(BuildState::Broken(notice)) => return Some(notice.clone()),
            Some(BuildState::Built) | None => {}
        }
        if let Some(reason) = deployment.refusal() {
            let since_ms = deployment
                .versions()
                .first()
                .map(|version| version.since_ms);
            return Some(NoticePage {
                kind: "refused",
                passing: PageRefresh::WhenFixed,
                title: format!("{guest}: the component was refused"),
                advice: None,
                output: reason,
                since_ms: since_ms.unwrap_or(self.started_ms),
            });
        }
        let is_there = deployment.live_version() > 0;
        (!is_there).then(|| {
            let title = format!("{guest} is being loaded");
            passing("loading", title, self.started_ms)
        })
    }
}

/// While a guest cannot serve the sources saved last, no client gets a response of an earlier version. A person or a program
/// would mistake the old response for the new one.
impl RequestHook for GuestBuilds {
    fn on_request(&self, request_id: &str, method: &Method, uri: &Uri) {
        self.paths.note(request_id, method, uri);
    }

    fn answers(
        &self,
        deployment: &Deployment,
        route: &Route,
        head: &Parts,
    ) -> Option<HookResponse> {
        if let Some(refused) = self.callers.refuse(route, head) {
            return Some(refused);
        }
        let notice = self.notice(deployment);
        if page::is_poll(&head.headers) {
            return Some(HookResponse {
                response: page::poll_response(notice.as_ref()),
                kind: POLL,
            });
        }
        notice.map(|notice| HookResponse {
            response: notice.answer(&head.method, &head.headers),
            kind: notice.kind,
        })
    }
}
