//! Who may say what runs: TUF metadata (the catalogue) and the signed order of one device.
//!
//! ```text
//!   root.json ── names the keys of ──▶ targets · snapshot · timestamp          and, under x-muster, of the order
//!                                         │         ▲          │
//!   timestamp.json ── pins ── snapshot.json ── pins ┴ targets.json ── delegates bundles/<model>/auto/* to ── auto-<model>.json
//!                                                        │                                                      │
//!   order ── version of targets.json it was made against ┘ and, for each slot, a bundle that one of the two lists ┘
//! ```
//!
//! The rules of TUF are those of `sigstore-tuf`; we drive its core ourselves, so that a failed write is a failed
//! update. What TUF does not say is ours: which files are here and which are still to come, and the check of an order.
//!
//! Architecture invariant: everything here is a function of bytes and of a time handed in. Nothing stops a running
//! model: expiry only stops change.

pub mod author;
mod catalogue;
mod checks;
#[cfg(feature = "conformance")]
mod conformance;
mod documents;
mod envelope;
mod error;
mod files;
mod fit;
mod key;
mod order;
mod provider;
mod refresh;
mod revocation;
mod root;
mod strict;

pub use catalogue::{LookupError, Target, TrustedSet, Versions, delegated_files};
#[cfg(feature = "conformance")]
pub use conformance::AnyTarget;
pub use envelope::{Envelope, EnvelopeError, Signature, Threshold};
pub use error::TrustError;
pub use files::{FileName, Write};
pub use fit::{AgentVersion, AgentVersionError, Demands, Fitness, Unfit};
pub use key::{KeyError, KeyId, PublicKey, SecretKey, Sign, SignError};
pub use order::{Consent, Order, OrderContext, OrderRefusal, Permit, Verdict, Want};
pub use provider::install;
pub use refresh::{Outcome, Refreshed, Roots, ahead_at_rest};
pub use revocation::{REVOKED_FIELD, Revocation, RevocationAction, Revocations, Standing};
pub use root::{MusterRoot, Role, RoleKeys};

use std::collections::BTreeMap;

/// Trust files by the name they travel under: `2.root.json`, `timestamp.json`, `snapshot.json`, `targets.json`,
/// `auto-<model>.json`.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Whether this build gives way where Muster is stricter than TUF, so that other people's conformance suite can be run on
/// it: keys of other kinds, roots without `x-muster`, any name of a role and any path of a target. Never in a release.
const LAX: bool = cfg!(feature = "conformance");

#[cfg(all(feature = "conformance", not(debug_assertions)))]
compile_error!("the feature 'conformance' accepts what devices must refuse; build releases without it");

/// The version of the TUF specification that all our files state.
pub const SPEC_VERSION: &str = "1.0.31";

/// Field of `root.json` that holds what TUF has no word for: the order keys and the TLS roots.
pub const MUSTER_FIELD: &str = "x-muster";

/// Field of `timestamp.json` with the time at which it was signed; raises a device's floor of time.
pub const ISSUED_FIELD: &str = "x-muster-issued";
