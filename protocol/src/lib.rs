//! The words that agents and the fleet share, and the pure functions both must compute alike.
//!
//! ```text
//!   ids · time · limits      the nouns and their bounds
//!   topic                    where a message goes: the only file in which a '/' of a topic is written
//!   message · chunk          what goes over the wire
//!   manifest                 what a bundle is
//!   enrol                    how a box becomes a member, and keeps its certificate fresh
//!   capture                  rows that a site keeps for itself, if it will: the wish and the answer, never the rows
//!   trust                    who may say so: TUF metadata and the order of one device
//!   drift                    has the world changed? Counting, testing, alarming
//!   checkup                  what a doctor finds, on the box and at the server
//! ```
//!
//! Architecture invariant: no file, socket, clock, randomness, thread or async lives here. Whatever depends on the time
//! takes it as an argument. A newer fleet may speak to an older box: unknown fields are ignored, unknown *required
//! features* are refused.

pub mod capture;
pub mod checkup;
pub mod chunk;
pub mod drift;
pub mod enrol;
pub mod ids;
pub mod limits;
pub mod manifest;
pub mod message;
pub mod time;
pub mod topic;
pub mod trust;
