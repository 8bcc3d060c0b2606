//! Who comes from which port of this machine: how the broker learns whose certificate the front has verified.
//!
//! The front binds a port before it connects inside, notes the name for it here, and holds the port for as long as the
//! note stands. No other process can come from that port meanwhile, so none can borrow the name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Debug, Default)]
pub(super) struct Guests(Arc<Mutex<HashMap<SocketAddr, String>>>);

/// One note; it goes when this is dropped. Drop it before the socket that holds the port.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Guests,
    from: SocketAddr,
}

impl Guests {
    pub(super) fn admit(&self, from: SocketAddr, name: &str) -> Guest {
        self.lock().insert(from, name.to_owned());
        Guest { guests: self.clone(), from }
    }

    pub(super) fn is(&self, from: SocketAddr, name: &str) -> bool {
        self.lock().get(&from).is_some_and(|guest| guest == name)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().remove(&self.from);
    }
}
