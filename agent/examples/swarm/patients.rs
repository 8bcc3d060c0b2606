//! The sums that a box without patients reports: how often it was asked, how wrong it was, and how wrong the bundle before
//! would have been.
//!
//! Every new bundle is a little better than the one before it, as a retrained one is in the world it was trained on. One
//! that is wrong on one hardware class is twice as wrong there, and as good as any other elsewhere.

use std::time::Duration;

use muster_protocol::ids::{BootId, Digest, SlotName};
use muster_protocol::message::report::PairedLoss;
use muster_protocol::message::{Health, LabelBlock, ModelStats, Report};
use muster_protocol::time::Timestamp;

const DAY: Duration = Duration::from_hours(24);
/// Labelled answers of one report: what the gate asks for.
const ROWS: u32 = 240;
/// One patient's loss by the bundle before, and how much the difference scatters from patient to patient.
const LOSS: f64 = 0.02;
const SCATTER: f64 = 0.03;
const BETTER: f64 = -0.004;
const WRONG: f64 = 0.02;
/// Share of patients with the outcome.
const RATE: f64 = 0.024;

/// What a slot runs, and ran.
#[derive(Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) slot: &'a SlotName,
    pub(crate) bundle: Digest,
    pub(crate) before: Option<Digest>,
    /// It is wrong here.
    pub(crate) is_wrong: bool,
    /// Between -1 and 1: how this box differs from others.
    pub(crate) own: f64,
}

pub(crate) fn report(boot: BootId, (from, to): (Timestamp, Timestamp), seen: &[Seen<'_>]) -> Report {
    Report {
        boot,
        sequence: 0,
        held_from: 0,
        from,
        to,
        health: Health {
            uptime_s: 3600,
            cpu_percent: 12.0,
            memory_used_bytes: 2 << 30,
            memory_total_bytes: 8 << 30,
            agent_rss_bytes: 14 << 20,
            disk_free_bytes: 40 << 30,
            temperature_c: Some(41.0),
            spooled: 0,
        },
        models: seen.iter().map(stats).collect(),
        panes: Vec::new(),
        labels: seen.iter().map(|seen| labels(seen, to)).collect(),
        shadows: Vec::new(),
    }
}

fn stats(seen: &Seen<'_>) -> ModelStats {
    ModelStats {
        slot: seen.slot.clone(),
        bundle: seen.bundle,
        requests: u64::from(ROWS),
        rows: u64::from(ROWS),
        failures: 0,
        refused: 0,
        latency: vec![0, 0, ROWS - 20, 20],
    }
}

fn labels(seen: &Seen<'_>, to: Timestamp) -> LabelBlock {
    let n = f64::from(ROWS);
    let mean = if seen.is_wrong { WRONG } else { BETTER } + 0.0005 * seen.own;
    let diff_sum = mean * n;
    LabelBlock {
        slot: seen.slot.clone(),
        bundle: seen.bundle,
        day: to.floor_to(DAY),
        n: u64::from(ROWS),
        label_sum: RATE * n,
        prediction_sum: RATE * n,
        loss_sum: LOSS * n + diff_sum,
        loss_sum_sq: LOSS * n,
        against: seen.before.map(|bundle| PairedLoss {
            bundle,
            n: u64::from(ROWS),
            loss_sum: LOSS * n,
            diff_sum,
            diff_sum_sq: (mean * mean + SCATTER * SCATTER) * n,
        }),
    }
}
