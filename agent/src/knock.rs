//! TCP and TLS to one server, with a deadline: how every visit to the fleet begins. Says nothing by itself.
//!
//! In TLS 1.3 a server judges our certificate only after our side of the handshake is done, and a fleet turns away whom it
//! does not admit after both are. [`Knocked::settled`] waits for either, so that a caller who says nothing learns of it too.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{InvalidDnsNameError, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::Address;
use crate::tls;

#[derive(Debug, thiserror::Error)]
pub enum KnockError {
    #[error("'{host}' is no name a certificate can be for")]
    Name {
        host: String,
        #[source]
        source: InvalidDnsNameError,
    },
    #[error("it cannot be reached")]
    Unreachable(#[source] io::Error),
    #[error("{why}")]
    Untrusted {
        why: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("it does not answer")]
    Slow,
}

/// What becomes of a connection on which we say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// It waits for our first words.
    Heard,
    /// Ended right after both sides had shown who they are: so goes one whom the fleet does not admit.
    TurnedAway,
}

/// A connection on which nothing was said yet.
#[derive(Debug)]
pub struct Knocked(pub TlsStream<TcpStream>);

/// From the look-up of the name to the end of our handshake.
pub async fn knock(
    address: &Address,
    tls: Arc<ClientConfig>,
    deadline: Duration,
) -> Result<Knocked, KnockError> {
    let host = address.host();
    let name = ServerName::try_from(host.to_owned())
        .map_err(|source| KnockError::Name { host: host.to_owned(), source })?;
    let connecting = async {
        let tcp = TcpStream::connect((host, address.port())).await.map_err(KnockError::Unreachable)?;
        TlsConnector::from(tls).connect(name, tcp).await.map_err(judged)
    };
    tokio::time::timeout(deadline, connecting).await.map_or(Err(KnockError::Slow), |done| done.map(Knocked))
}

impl Knocked {
    /// Waits for the server to object, and closes.
    pub async fn settled(mut self, patience: Duration) -> Result<Welcome, KnockError> {
        match tokio::time::timeout(patience, self.0.read(&mut [0; 1])).await {
            // Whatever it says: it speaks with us.
            Err(_) | Ok(Ok(1..)) => Ok(Welcome::Heard),
            Ok(Ok(0)) => Ok(Welcome::TurnedAway),
            Ok(Err(error)) if is_end(&error) => Ok(Welcome::TurnedAway),
            Ok(Err(error)) => Err(judged(error)),
        }
    }
}

fn judged(source: io::Error) -> KnockError {
    match tls::refusal(&source) {
        Some(why) => KnockError::Untrusted { why, source },
        None => KnockError::Unreachable(source),
    }
}

/// The connection ended without a word of TLS.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}
