//! What can go wrong with the authorities, and what to do then. Never a word of a key.

use std::path::PathBuf;

use rustls::server::VerifierBuilderError;

use crate::mint::MintError;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot write {}; check the folder's owner and the disk", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} has no certificates yet; start the server once, it makes them", path.display())]
    Absent { path: PathBuf },
    #[error("{} can be read by others: consider the key stolen, or chmod 600 it if you know that it is not", path.display())]
    Exposed { path: PathBuf },
    #[error("{} cannot be used: {reason}", path.display())]
    Damaged { path: PathBuf, reason: &'static str },
    #[error(
        "{what} is gone from the folder pki, and {} says that it was there: restore its certificate and key from a backup. \
         Only if it was meant to go, move {} away as well",
        witness.display(), witness.display()
    )]
    Lost { what: String, witness: PathBuf },
    #[error("'{0}' is neither a host name nor an address; correct [server] names")]
    Name(String),
    #[error("[server] names is empty; name at least what boxes call this server")]
    NoNames,
    #[error("'{0}' is no name for a client of the broker: write o- and 1 to 48 of a-z, 0-9 and '-'")]
    ClientName(String),
    #[error("[mqtt] ca holds no certificate in PEM that can be read")]
    BrokerAuthority,
    #[error("'{0}' is not a serial number in hexadecimal")]
    Serial(String),
    #[error("no new authority for servers is prepared; run 'muster-fleet ca prepare-server' first")]
    NothingPrepared,
    #[error("a new authority for servers is prepared already: number {0}; switch to it, or go on waiting")]
    Prepared(u32),
    #[error("no randomness for a serial number")]
    Random(#[from] MintError),
    #[error("{what} cannot be signed")]
    Sign {
        what: &'static str,
        #[source]
        source: rcgen::Error,
    },
    #[error("TLS cannot be set up with the certificates in the folder pki")]
    Tls(#[source] rustls::Error),
    #[error("clients cannot be verified with the authorities in the folder pki")]
    Verifier(#[source] VerifierBuilderError),
}

impl PkiError {
    pub(super) fn sign(what: &'static str) -> impl Fn(rcgen::Error) -> Self + Copy {
        move |source| Self::Sign { what, source }
    }
}
