//! The builder: takes retraining runs from the fleet and does all that executes other people's code or needs a signing
//! key, on a machine of the owner's choice.
//!
//! ```text
//!   worker ── claim ──▶ job ──▶ trainer (child, limits) ──▶ output ──▶ bundle ──▶ gates ──▶ publish
//!              │ heartbeat: progress, log lines                 │ eval (child): answers, golden outputs
//!              └ lease lost, cancelled ──▶ stop                 │ score · reference
//! ```
//!
//! Architecture invariant: it reaches the fleet only by [`crate::client`], so it runs anywhere; it links no inference
//! runtime; and it believes nothing a trainer says about itself.

pub mod bundle;
pub mod child;
pub mod config;
pub mod convert;
pub mod datasets;
pub mod eval;
pub mod feed;
pub mod forms;
pub mod gates;
pub mod heartbeat;
pub mod infer;
pub mod job;
pub mod output;
pub mod publish;
pub mod reference;
pub mod rows;
pub mod score;
pub mod slices;
pub mod trainer;
pub mod workdir;
pub mod worker;
