//! The publisher's side, offline: key files, the root, the catalogue in a local folder, and what a builder adds to it.
//!
//! ```text
//!   keys/NAME.key, NAME.pub             private ones made here, 0600 and encrypted; public ones of other holders too
//!   draft/targets.json, ROLE.json       being edited: nobody has signed
//!   draft/root.json, NAME.signing.json  fixed, being signed: one file that can be carried to the next key holder
//!   metadata/1.root.json …              finished; root.json, targets.json and ROLE.json are copies of the newest
//! ```
//!
//! A draft becomes metadata only when the devices' own rules accept it, in one rename; until then everything published
//! stays as it is. Nothing here speaks to a server: what is finished is carried or uploaded by somebody else. It knows
//! no clock; expiry is handed in.

pub mod auto;
pub mod changes;
mod draft;
mod error;
pub mod external;
pub mod keys;
pub mod mirror;
pub mod passphrase;
pub mod tls;
mod workspace;

pub use draft::{Draft, Progress, Round};
pub use error::PublisherError;
pub(crate) use workspace::SINCE;
pub use workspace::{Adopted, KnownKey, Release, RoleChange, RootChange, RootRequest, Workspace};
