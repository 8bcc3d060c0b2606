//! What stands before the broker: mutual TLS, a list of certificates that came, and whatever a test wants of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::pki::{Clients, pki};

pub(super) struct Front {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

pub(super) struct State {
    pub(super) tls: Arc<ServerConfig>,
    /// Serial numbers that are turned away after the handshake, as a fleet does with boxes it does not admit.
    pub(super) barred: BTreeSet<String>,
    /// Serial numbers that came, in order.
    pub(super) came: Vec<String>,
    /// Cuts every connection when it changes.
    cut: watch::Sender<()>,
    /// Put into every connection towards the box, between what the broker says.
    inject: watch::Sender<Vec<u8>>,
}

impl Front {
    pub(super) fn start(broker: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tls = pki().server(Clients::MustShow);
        let (cut, _) = watch::channel(());
        let (inject, _) = watch::channel(Vec::new());
        let state = State { tls, barred: BTreeSet::new(), came: Vec::new(), cut, inject };
        let state = Arc::new(Mutex::new(state));
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        drop(runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut tasks = JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tasks.spawn(carry(tcp, broker, Arc::clone(&shared)));
            }
        }));
        Self { address, state, runtime: Some(runtime) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Says this to every box that is connected, over and over, until it hangs up.
    pub(super) fn inject(&self, bytes: Vec<u8>) {
        self.state().inject.send_replace(bytes);
    }

    /// Ends every connection, as a network does.
    pub(super) fn cut(&self) {
        self.state().cut.send_replace(());
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn carry(tcp: TcpStream, broker: SocketAddr, state: Arc<Mutex<State>>) {
    tcp.set_nodelay(true).unwrap();
    let tls = Arc::clone(&state.lock().unwrap().tls);
    let Ok(mut outside) = TlsAcceptor::from(tls).accept(tcp).await else { return };
    let serial = {
        let certificates = outside.get_ref().1.peer_certificates().unwrap();
        X509Certificate::from_der(&certificates[0]).unwrap().1.raw_serial_as_string()
    };
    let (mut cut, mut inject) = {
        let mut state = state.lock().unwrap();
        state.came.push(serial.clone());
        if state.barred.contains(&serial) {
            return;
        }
        (state.cut.subscribe(), state.inject.subscribe())
    };
    let Ok(mut inside) = TcpStream::connect(broker).await else { return };
    inside.set_nodelay(true).unwrap();
    tokio::select! {
        carried = tokio::io::copy_bidirectional(&mut outside, &mut inside) => drop(carried),
        changed = cut.changed() => drop(changed),
        changed = inject.changed() => {
            drop(changed);
            let bytes = inject.borrow_and_update().clone();
            // Until the box has had enough of it.
            while outside.write_all(&bytes).await.is_ok() && outside.flush().await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    }
}
