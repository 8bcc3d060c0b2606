//! The publisher's side, offline: key files, the root, the catalogue in a local folder, and what a builder adds to it.
//!
//! ```text
//!   keys/NAME.key, NAME.pub        made here, private ones readable by their owner only
//!   draft/root.json, targets.json  being edited and signed
//!   metadata/1.root.json …         finished; root.json and targets.json are copies of the newest
//! ```
//!
//! It never speaks to a server: what is finished is carried or uploaded by somebody else. It knows no clock; expiry is
//! handed in.

pub mod auto;
pub mod keys;
mod workspace;

pub use workspace::{Progress, PublisherError, Release, RootRequest, Workspace};
