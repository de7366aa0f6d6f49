//! Errors that keep a correctly configured host from starting, written for its operator: the problem, then the remedy.
//!
//! A failure of this kind exits with 1, because the same configuration may serve later or elsewhere: no server answers, a port is
//! taken, another host has the file. A fault of the configuration exits with 2: a wrong password, an unknown database, a table
//! that cannot serve. Of several servers, one that may come back is enough for a 1.

use std::io;
use std::net::SocketAddr;

use crate::config_reader::fault::ConfigFault;
use cloakroom_base::telemetry::escape;

/// Error returned when an [`App`](crate::app::App) cannot be built.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is wrong. Contains every fault that was found, and at least one.
    AtFault(Vec<ConfigFault>),
    /// The configuration may be correct, but something outside the host is missing or does not work at present.
    Failed(StartFailure),
}

/// Something that the host needs and could not get. `Display` prints two lines, as for [`ConfigFault`]. The text contains no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}\n    {}", escape(problem), escape(remedy))]
pub struct StartFailure {
    /// A description of the problem.
    pub problem: String,
    /// A way to solve the problem.
    pub remedy: String,
}

impl StartError {
    /// Combines this error with other faults. If there are other faults, a failure becomes one more fault, because the
    /// configuration has to be corrected first anyway.
    pub(crate) fn with(self, mut faults: Vec<ConfigFault>) -> Self {
        match self {
            Self::AtFault(more) => faults.extend(more),
            Self::Failed(failure) if faults.is_empty() => return Self::Failed(failure),
            Self::Failed(StartFailure { problem, remedy }) => {
                faults.push(ConfigFault::new("store", problem, remedy));
            }
        }
        Self::AtFault(faults)
    }
}

impl From<ConfigFault> for StartError {
    fn from(fault: ConfigFault) -> Self {
        Self::AtFault(vec![fault])
    }
}

impl StartFailure {
    /// Creates the failure for an address that cannot be listened on. `elsewhere` describes how to configure another address.
    pub(crate) fn to_listen(address: SocketAddr, error: &io::Error, elsewhere: &str) -> Self {
        let port = address.port();
        let (reason, remedy) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                format!("port {port} is taken"),
                format!("stop the program that listens there, or name another port: {elsewhere}"),
            ),
            io::ErrorKind::PermissionDenied if port < 1024 => (
                format!("this user may not open port {port}: ports below 1024 need a privilege"),
                format!(
                    "name a port of at least 1024: {elsewhere}; \
                     or give the program the capability CAP_NET_BIND_SERVICE"
                ),
            ),
            io::ErrorKind::AddrNotAvailable => (
                format!("{} is not an address of this machine", address.ip()),
                format!("name one of its own, or 0.0.0.0 or [::] for all of them: {elsewhere}"),
            ),
            _ => (
                error.to_string(),
                format!("name another address: {elsewhere}"),
            ),
        };
        Self {
            problem: format!("cannot listen on {address}: {reason}"),
            remedy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_bound_is_reported_with_a_remedy() {
        let cases = [
            (
                "127.0.0.1:3000",
                io::ErrorKind::AddrInUse,
                "cannot listen on 127.0.0.1:3000: port 3000 is taken",
                "name another port: --listen",
            ),
            (
                "[::]:80",
                io::ErrorKind::PermissionDenied,
                "cannot listen on [::]:80: this user may not open port 80",
                "name a port of at least 1024: --listen",
            ),
            (
                "192.0.2.1:3000",
                io::ErrorKind::AddrNotAvailable,
                "cannot listen on 192.0.2.1:3000: 192.0.2.1 is not an address of this machine",
                "0.0.0.0 or [::] for all of them: --listen",
            ),
            (
                "127.0.0.1:3000",
                io::ErrorKind::PermissionDenied,
                "cannot listen on 127.0.0.1:3000: permission denied",
                "name another address: --listen",
            ),
        ];
        for (address, kind, problem, remedy) in cases {
            let failure =
                StartFailure::to_listen(address.parse().unwrap(), &kind.into(), "--listen");
            assert!(failure.problem.starts_with(problem), "{failure}");
            assert!(failure.remedy.contains(remedy), "{failure}");
        }
    }

    #[test]
    fn a_start_failure_is_reported_together_with_the_faults() {
        let failure = StartFailure {
            problem: "no answer".to_owned(),
            remedy: "start it".to_owned(),
        };
        let alone = StartError::Failed(failure.clone()).with(Vec::new());
        assert!(matches!(alone, StartError::Failed(same) if same == failure));
        let fault = ConfigFault::new("session.name", "odd", "");
        let StartError::AtFault(faults) = StartError::Failed(failure).with(vec![fault]) else {
            panic!("there was a fault");
        };
        let keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["session.name", "store"]);
    }
}
