//! What this box believes, at rest: the trust files, the order and the floors, in one folder.
//!
//! ```text
//!   offer(name, bytes) ──▶ received ──refresh──▶ protocol::trust ──▶ files on disk ──▶ trusted
//!                          (bounded)             R1 … R6             temp · fsync · rename · fsync folder
//!   accept_order(bytes) ─────────────────────▶ Order::check ───────▶ order.json ─────▶ order
//! ```
//!
//! Nothing counts before it is on disk: a failed write is a failed update, and the state before holds. `timestamp.json`
//! is written last and leads to all the others, so a crash at any point leaves one whole state.
//!
//! It must never look at expiry when it opens: a box that was off for a year still runs its model.

mod age;
mod begin;
mod floor;
mod folder;
mod store;

pub use age::{is_behind, notices};
pub use begin::{Belief, look, reset};
pub use folder::FolderError;
pub use store::{AcceptError, RefreshError, StoreError, StoreVersions, TrustStore};
