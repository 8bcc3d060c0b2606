//! Who comes from which port of this machine: how the broker learns whose certificate the front has verified.
//!
//! The front binds a port before it connects inside, notes the name for it here, and holds the port for as long as the
//! note stands. No other process can come from that port meanwhile, so none can borrow the name. That is why
//!
//! - ports are named, not asked for: one that the system picks is free again as soon as a connect was refused;
//! - addresses are never shared (`SO_REUSEADDR`): another process could then bind the same port and be quicker;
//! - each name comes from an address of its own within 127.0.0.0/8: ports rest for a minute after use, and a box that
//!   comes again and again uses up none but its own.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::{TcpSocket, TcpStream};

/// Ports that no service listens on (RFC 6335).
const PORT_FIRST: u16 = 49_152;
const PORTS: u16 = 16_384;
/// Ports tried before we give up.
const TRIES: usize = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    notes: Mutex<HashMap<SocketAddr, String>>,
    /// Ports tried so far.
    tried: AtomicU16,
}

/// One note; it goes when this is dropped. Drop it before whatever holds the port.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Guests,
    from: SocketAddr,
}

/// A connection to the broker under a name. Dropped in this order: the note goes before the port is free.
#[derive(Debug)]
pub(super) struct Visit {
    _note: Guest,
    pub(super) stream: TcpStream,
}

/// The same before there is a connection: a connect that fails, or is given up, closes its socket at once.
#[derive(Debug)]
struct Reserved {
    note: Guest,
    _port: OwnedFd,
}

impl Guests {
    /// Connects to the broker under this name.
    pub(super) async fn visit(&self, name: &str, broker: SocketAddr) -> io::Result<Visit> {
        let (socket, reserved) = self.reserve(name)?;
        let stream = socket.connect(broker).await?;
        Ok(Visit { _note: reserved.note, stream })
    }

    pub(super) fn admit(&self, from: SocketAddr, name: &str) -> Guest {
        self.lock().insert(from, name.to_owned());
        Guest { guests: self.clone(), from }
    }

    pub(super) fn is(&self, from: SocketAddr, name: &str) -> bool {
        self.lock().get(&from).is_some_and(|guest| guest == name)
    }

    fn reserve(&self, name: &str) -> io::Result<(TcpSocket, Reserved)> {
        let socket = self.bind(address(name))?;
        let port = socket.as_fd().try_clone_to_owned()?;
        let note = self.admit(socket.local_addr()?, name);
        Ok((socket, Reserved { note, _port: port }))
    }

    /// A socket with a port that is nobody else's.
    fn bind(&self, address: Ipv4Addr) -> io::Result<TcpSocket> {
        for _ in 0..TRIES {
            let port = PORT_FIRST + self.0.tried.fetch_add(1, Ordering::Relaxed) % PORTS;
            let socket = TcpSocket::new_v4()?;
            match socket.bind((address, port).into()) {
                Ok(()) => return Ok(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, String>> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().remove(&self.from);
    }
}

/// Where a name comes from. Two may have the same address; it has ports enough for both. Neither 127.0 nor 127.255 is
/// used: the machine's own services and its broadcast are there.
fn address(name: &str) -> Ipv4Addr {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let [a, b, c, ..] = hasher.finish().to_be_bytes();
    Ipv4Addr::new(127, 1 + a % 254, b, c)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn names_come_from_addresses_of_their_own() {
        let all: Vec<_> = (0..100).map(|number| address(&format!("d-{number}"))).collect();
        assert!(all.iter().all(|address| address.is_loopback() && ![0, 255].contains(&address.octets()[1])));
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert!(different.len() > 95, "{different:?}");
        assert_eq!(address("d-0"), all[0]);
    }

    #[tokio::test]
    async fn ports_that_are_taken_are_passed_over() {
        let guests = Guests::default();
        let taken: Vec<_> =
            (0..3).map(|number| TcpListener::bind((address("box"), PORT_FIRST + number)).unwrap()).collect();
        let (socket, _reserved) = guests.reserve("box").unwrap();
        assert_eq!(socket.local_addr().unwrap(), (address("box"), PORT_FIRST + 3).into());
        drop(taken);
    }

    #[tokio::test]
    async fn the_port_is_held_until_the_note_is_gone_even_if_nobody_answers() {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let guests = Guests::default();
        let (socket, reserved) = guests.reserve("box").unwrap();
        let from = socket.local_addr().unwrap();
        let may_be_had = |reuse: bool| {
            let thief = TcpSocket::new_v4().unwrap();
            thief.set_reuseaddr(reuse).unwrap();
            thief.bind(from).is_ok()
        };
        socket.connect(nobody).await.unwrap_err();
        assert!(guests.is(from, "box"));
        assert!(!may_be_had(false) && !may_be_had(true), "{from} is free, and still noted");
        drop(reserved);
        assert!(!guests.is(from, "box"));
        assert!(may_be_had(false));
    }

    #[tokio::test]
    async fn nobody_else_comes_from_the_port_of_a_visit() {
        let broker = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let guests = Guests::default();
        let visit = guests.visit("box", broker.local_addr().unwrap()).await.unwrap();
        let from = visit.stream.local_addr().unwrap();
        assert_eq!(broker.accept().unwrap().1, from);
        assert!(guests.is(from, "box") && !guests.is(from, "other"));
        let thief = TcpSocket::new_v4().unwrap();
        thief.set_reuseaddr(true).unwrap();
        assert!(thief.bind(from).is_err());
        drop(visit);
        assert!(!guests.is(from, "box"));
    }
}
