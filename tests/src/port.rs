//! Ports of 127.0.0.1 for programs that must be given a port, possibly again after they were killed.

use std::net::{TcpListener, UdpSocket};
use std::ops::Range;

/// Below the ports that Linux assigns to outgoing connections. Such a connection could take the port while the program is down.
const PORTS: Range<u16> = 20_000..32_000;

/// A port reserved until this is dropped. All test processes bind a port's UDP socket before they use the port.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UdpSocket,
}

impl Port {
    /// Reserves a port on which no program listens.
    ///
    /// # Panics
    /// If no port is free.
    pub fn free() -> Self {
        let first = fastrand::u16(PORTS);
        let mut candidates = (first..PORTS.end).chain(PORTS.start..first);
        candidates.find_map(Self::claim).expect("a port is free")
    }

    /// Reserves the ports at these distances above a number, and returns the number and the ports.
    ///
    /// # Panics
    /// If no such ports are free.
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

    /// Returns the port number.
    pub fn number(&self) -> u16 {
        self.number
    }
}
