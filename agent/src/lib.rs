//! The agent on an edge box: pulls signed bundles, proves them, runs them, measures drift, reports.

pub mod activate;
pub mod address;
pub mod arguments;
pub mod back_off;
pub mod blobs;
pub mod capabilities;
pub mod capture;
pub mod clock;
pub mod commands;
pub mod config;
pub mod disk;
pub mod door;
pub mod download;
pub mod engine;
pub mod eval;
pub mod facts;
pub mod identity;
pub mod knock;
pub mod labels;
pub mod ledger;
pub mod link;
pub mod measure;
pub mod oip;
pub mod onnx;
mod quiet;
pub mod reconcile;
pub mod renew;
pub mod report;
pub mod runtime;
pub mod selftest;
pub mod serve;
pub mod shadow;
pub mod spool;
mod stopwatch;
pub mod tls;
pub mod trust;
pub mod trust_command;

/// An error and everything that caused it, as one sentence.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
