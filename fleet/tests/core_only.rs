//! A build of a part of the suite.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a story that goes wrong should stop, and say where")]

#[path = "it/broker.rs"]
mod broker;
#[path = "it/delivery.rs"]
mod delivery;
#[path = "it/device.rs"]
mod device;
#[path = "it/ingest.rs"]
mod ingest;
#[path = "it/intake.rs"]
mod intake;
#[path = "it/publisher.rs"]
mod publisher;
#[path = "it/restart.rs"]
mod restart;
#[path = "it/server.rs"]
mod server;
#[path = "it/store.rs"]
mod store;
