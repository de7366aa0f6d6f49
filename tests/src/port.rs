//! Ports of 127.0.0.1 for programs that have to be told where to listen, perhaps again after they were killed.

use std::net::{TcpListener, UdpSocket};
use std::ops::Range;

/// Below the ports that Linux gives to outgoing connections: one of those would take the port while the program is down.
const PORTS: Range<u16> = 20_000..32_000;

/// A port that is the test's own until it is dropped. All test processes look for a port's UDP socket before they take the port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// A port on which nothing listens now.
    ///
    /// # Panics
    /// If there is none.
    pub fn free() -> Self {
        let first = fastrand::u16(PORTS);
        let mut candidates = (first..PORTS.end).chain(PORTS.start..first);
        candidates.find_map(Self::claim).expect("a port is free")
    }

    /// A number, and the ports at these distances above it, on which nothing listens.
    ///
    /// # Panics
    /// If there are none.
    pub fn above(distances: &[u16]) -> (u16, Vec<Self>) {
        let above = |number: u16| {
            let ports = distances
                .iter()
                .map(|distance| Self::claim(number + distance));
            Some((number, ports.collect::<Option<_>>()?))
        };
        PORTS.rev().find_map(above).expect("ports are free")
    }

    fn claim(number: u16) -> Option<Self> {
        let claim = UdpSocket::bind(("127.0.0.1", number)).ok()?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self {
            number,
            _claim: claim,
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
