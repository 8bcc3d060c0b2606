//! The fleet server, the operators' CLI and the builder.
//!
//! ```text
//!   doors   arguments · http · door · cli · builder · offline · otlp · openlineage · hooks · mail         where the world comes in
//!   deeds   ingest · intake · registrar · setup · orders · tasks · lookout · figures · checkup    load → decide → save → say
//!   hands   store · password · oidc · smtp · blob · table · pki · admission · attendance · broker · link · deliver · signer · publisher · oms · oci    touch one thing each
//!   mind    rollout · needs · enrolment · identity · pace · gate · drift · retrain · registry · lineage · dataset · audit · rollup    decide; pure; no clock, no I/O
//! ```
//! Imports point down only. `cli` and `builder` reach the server only over REST.

pub mod addresses;
pub mod admission;
pub mod arguments;
pub mod attendance;
pub mod audit;
pub mod blob;
pub mod broker;
pub mod builder;
pub mod catalogue;
pub mod checkup;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod dataset;
pub mod deliver;
pub mod door;
pub mod drift;
pub mod enrolment;
pub mod figures;
pub mod fleet;
mod follow;
pub mod gate;
pub mod handback;
pub mod hooks;
pub mod http;
pub mod identity;
pub mod ingest;
pub mod intake;
pub mod label_studio;
pub mod lineage;
pub mod link;
mod lookout;
pub mod mail;
pub mod mint;
pub mod needs;
pub mod oci;
pub mod offline;
pub mod oidc;
pub mod oms;
pub mod openlineage;
pub mod orders;
pub mod otlp;
pub mod pace;
pub mod password;
pub mod pki;
pub mod publisher;
pub mod registrar;
pub mod registry;
pub mod retrain;
pub mod rollout;
pub mod rollup;
pub mod roster;
pub mod say;
pub mod serve;
pub mod setup;
mod sight;
pub mod signer;
pub mod smtp;
pub mod store;
pub mod table;
pub mod tasks;
pub mod webhook;
