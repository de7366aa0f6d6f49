//! Resolution of a name to the addresses that a request may go to. It looks up the name, checks every address and
//! returns the checked addresses, so that no second look-up can give others. It limits concurrent look-ups and opens no
//! connection.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::address::{NonPublicKind, not_public};
use super::grant::{Destination, NormalizedHost, OutboundHost};
use crate::engine::fair_queue::{FairQueue, QueueFull, QueueSlot};
use cloakroom_base::limits::{GUEST_LOOKUPS_MAX, LOOKUPS_MAX};
use cloakroom_base::quota::ClientConnection;

/// The future of a look-up, with the addresses of a name.
pub(crate) type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// A name resolver.
pub(crate) trait Resolve: Send + Sync {
    /// Returns all addresses of a name, with the port. `places` are held until the look-up ends, even if its future is
    /// dropped.
    fn look_up(&self, name: &str, port: u16, places: Places) -> Lookup;
}

/// The right to one look-up.
pub(crate) type Places = Box<dyn Send>;

/// The limits on concurrent look-ups: of the host, and of one guest, so that a guest whose look-ups are slow leaves
/// room for others. The clients that guests call for are served in rotation.
#[derive(Debug)]
pub(crate) struct LookupLimits {
    of_host: Arc<FairQueue>,
    of_guest: Arc<FairQueue>,
}

impl LookupLimits {
    pub(crate) fn new() -> Self {
        Self::with(FairQueue::new(LOOKUPS_MAX, usize::MAX))
    }

    /// Returns the limits for another guest of the same host.
    pub(crate) fn beside(&self) -> Self {
        Self::with(Arc::clone(&self.of_host))
    }

    /// The queues need no limit: each waiting call holds connection slots, which limit the number of calls.
    fn with(of_host: Arc<FairQueue>) -> Self {
        Self {
            of_host,
            of_guest: FairQueue::new(GUEST_LOOKUPS_MAX, usize::MAX),
        }
    }

    async fn take(&self, source: ClientConnection) -> Result<Places, QueueFull> {
        let of_guest = wait_for_slot(&self.of_guest, source).await?;
        let of_host = wait_for_slot(&self.of_host, source).await?;
        Ok(Box::new((of_guest, of_host)))
    }
}

async fn wait_for_slot(
    queue: &Arc<FairQueue>,
    source: ClientConnection,
) -> Result<QueueSlot, QueueFull> {
    match queue.try_enter() {
        Some(slot) => Ok(slot),
        None => queue.join(source, ())?.admitted().await.ok_or(QueueFull),
    }
}

/// Error returned when there is no usable address.
#[derive(Debug)]
pub(crate) enum ResolveError {
    /// The name has no address, or the look-up failed.
    NotFound(io::Error),
    /// An address is not public, and the grant for the name requires public ones.
    NotPublic(NonPublicKind),
}

/// Returns the addresses of a destination, all of them checked.
///
/// A single address that is not public refuses them all. A name with both kinds is more likely an attack or a mistake
/// than intended.
pub(crate) async fn addresses(
    resolver: &dyn Resolve,
    places: &LookupLimits,
    source: ClientConnection,
    destination: &Destination,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let name = match &destination.host {
        NormalizedHost::Address(address) => {
            return Ok(vec![SocketAddr::new(*address, destination.port)]);
        }
        NormalizedHost::Name(name) => name,
    };
    let busy = |QueueFull| ResolveError::NotFound(io::ErrorKind::ResourceBusy.into());
    let places = places.take(source).await.map_err(busy)?;
    let found = resolver.look_up(name, destination.port, places).await;
    let found = found.map_err(ResolveError::NotFound)?;
    if found.is_empty() {
        let error = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
        return Err(ResolveError::NotFound(error));
    }
    let private = found.iter().find_map(|address| not_public(address.ip()));
    match private {
        Some(kind) if !destination.private => Err(ResolveError::NotPublic(kind)),
        Some(_) | None => Ok(found),
    }
}

/// The system's resolver (`/etc/hosts`, DNS, and other sources in `nsswitch.conf`). It blocks, so each look-up runs on
/// its own thread. The thread does not prevent the process from exiting.
#[derive(Debug)]
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn look_up(&self, name: &str, port: u16, places: Places) -> Lookup {
        let (answer, answered) = oneshot::channel();
        let name = name.to_owned();
        let look_up = move || {
            let found = (name.as_str(), port).to_socket_addrs();
            drop(places);
            // The request may have been dropped.
            let _ = answer.send(found.map(Iterator::collect));
        };
        let thread = std::thread::Builder::new().name("look-up".to_owned());
        let started = thread.spawn(look_up);
        Box::pin(async move {
            started?;
            answered.await.map_err(io::Error::other)?
        })
    }
}

/// Returns the granted hosts whose names currently have an address that is not public. Requests to them are denied. A
/// name that is not resolved within `patience` is left out, and so are patterns.
pub async fn private_today(
    granted: &[OutboundHost],
    patience: Duration,
) -> Vec<(OutboundHost, NonPublicKind)> {
    let places = LookupLimits::new();
    let look_ups = granted.iter().filter_map(|host| {
        let destination = Destination {
            tls: false,
            host: NormalizedHost::Name(host.checked_name()?.to_owned()),
            port: 80,
            private: false,
        };
        let places = places.beside();
        Some(async move {
            let found = addresses(
                &SystemResolver,
                &places,
                ClientConnection::default(),
                &destination,
            );
            match tokio::time::timeout(patience, found).await {
                Ok(Err(ResolveError::NotPublic(kind))) => Some((host.clone(), kind)),
                Ok(Ok(_) | Err(ResolveError::NotFound(_))) | Err(_) => None,
            }
        })
    });
    let found = futures_util::future::join_all(look_ups).await;
    found.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloakroom_base::quota::PeerKey;

    /// Resolves every name to the given addresses.
    struct Answers(Vec<&'static str>);

    impl Resolve for Answers {
        fn look_up(&self, _: &str, port: u16, _: Places) -> Lookup {
            let addresses = self
                .0
                .iter()
                .map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
            let addresses = addresses.collect();
            Box::pin(async move { Ok(addresses) })
        }
    }

    async fn resolve(
        answers: &[&'static str],
        private: bool,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let destination = Destination {
            tls: false,
            host: NormalizedHost::Name("api.test".to_owned()),
            port: 81,
            private,
        };
        let answers = Answers(answers.to_vec());
        addresses(&answers, &LookupLimits::new(), NOBODY, &destination).await
    }

    const NOBODY: ClientConnection = ClientConnection {
        peer: None,
        connection: 0,
    };

    #[tokio::test]
    async fn one_non_public_address_refuses_the_whole_lookup() {
        let public = ["8.8.8.8", "2606:4700::1111"];
        assert_eq!(resolve(&public, false).await.unwrap().len(), 2);
        for place in 0..3 {
            let mut mixed = public.to_vec();
            mixed.insert(place, "169.254.169.254");
            let refused = resolve(&mixed, false).await.unwrap_err();
            let is_refused = matches!(refused, ResolveError::NotPublic(NonPublicKind::LinkLocal));
            assert!(is_refused, "{refused:?}");
            assert_eq!(resolve(&mixed, true).await.unwrap().len(), 3);
        }
    }

    #[tokio::test]
    async fn a_lookup_without_addresses_is_an_error() {
        let nothing = resolve(&[], true).await.unwrap_err();
        assert!(matches!(nothing, ResolveError::NotFound(_)));
    }

    #[tokio::test]
    async fn an_address_is_not_looked_up_and_goes_as_it_is_written() {
        let destination = Destination {
            tls: false,
            host: NormalizedHost::Address("127.0.0.1".parse().unwrap()),
            port: 81,
            private: true,
        };
        let found = addresses(&Answers(vec![]), &LookupLimits::new(), NOBODY, &destination).await;
        assert_eq!(found.unwrap(), ["127.0.0.1:81".parse().unwrap()]);
    }

    /// Keeps its permits forever, like a look-up at a name server that does not answer.
    struct Silent;

    impl Resolve for Silent {
        fn look_up(&self, _: &str, _: u16, places: Places) -> Lookup {
            std::mem::forget(places);
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn unanswered_lookups_of_one_guest_do_not_block_other_guests() {
        let destination = Destination {
            tls: false,
            host: NormalizedHost::Name("slow.test".to_owned()),
            port: 80,
            private: false,
        };
        let guest = LookupLimits::new();
        for _ in 0..2 * GUEST_LOOKUPS_MAX {
            let asked = addresses(&Silent, &guest, NOBODY, &destination);
            assert!(tokio::time::timeout(Duration::ZERO, asked).await.is_err());
        }
        let (answers, other) = (Answers(vec!["8.8.8.8"]), guest.beside());
        assert!(
            addresses(&answers, &other, NOBODY, &destination)
                .await
                .is_ok()
        );
        assert!(guest.of_host.usage().0 >= LOOKUPS_MAX - GUEST_LOOKUPS_MAX);
    }

    #[tokio::test]
    async fn lookups_are_granted_round_robin_by_client() {
        let places = LookupLimits::new();
        let mut held = Vec::new();
        for _ in 0..GUEST_LOOKUPS_MAX {
            held.push(places.take(NOBODY).await.unwrap());
        }
        let order = parking_lot::Mutex::new(Vec::new());
        let take = async |peer: u8| {
            let peer = Some(PeerKey::of([10, 0, 0, peer].into()));
            let source = ClientConnection {
                peer,
                connection: 0,
            };
            let place = places.take(source).await.unwrap();
            order.lock().push(source.peer);
            drop(place);
        };
        let many = futures_util::future::join_all((0..9).map(|_| take(1)));
        tokio::join!(many, take(2), async { drop(held.pop()) });
        let visitor = Some(PeerKey::of([10, 0, 0, 2].into()));
        let order = order.into_inner();
        assert!(order[..2].contains(&visitor), "{order:?}");
    }

    #[tokio::test]
    async fn the_system_resolver_resolves_localhost_to_loopback() {
        let looked_up = SystemResolver
            .look_up("localhost", 81, Box::new(()))
            .await
            .unwrap();
        assert!(
            looked_up
                .iter()
                .all(|found| found.port() == 81 && found.ip().is_loopback())
        );
        assert!(!looked_up.is_empty());
    }
}
