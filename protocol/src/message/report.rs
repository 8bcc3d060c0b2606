//! The binary report: telemetry, drift panes, blocks of matured labels, and what was compared in the shadow.
//!
//! Only sums and counts leave a box: no input, no prediction, no label of a single patient has a field here.
//! One version byte, then postcard (varints; a pane of 16 streams takes about 700 bytes). What came later stands at the end
//! and only if there is any: reports of older boxes are read as they are.

use serde::{Deserialize, Serialize};

use super::{MessageError, VERSION, bound};
use crate::drift::Counts;
use crate::ids::{BootId, Digest, SlotName};
use crate::limits::{
    LABEL_BLOCKS_PER_REPORT_MAX, PANES_PER_REPORT_MAX, REPORT_BYTES_MAX, SLOTS_MAX, STREAMS_MAX,
};
use crate::time::Timestamp;

/// Upper bounds of the latency histogram's buckets, microseconds; one more bucket counts what is slower.
pub const LATENCY_BOUNDS_US: [u32; 15] =
    [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600, 819_200];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub boot: BootId,
    pub sequence: u64,
    /// Lowest sequence of this boot that the box still holds.
    pub held_from: u64,
    /// World time that the report covers.
    pub from: Timestamp,
    pub to: Timestamp,
    pub health: Health,
    pub models: Vec<ModelStats>,
    pub panes: Vec<Pane>,
    pub labels: Vec<LabelBlock>,
    /// Written after the rest, if there is any.
    #[serde(skip)]
    pub shadows: Vec<ShadowBlock>,
}

/// The box at the end of the report's span.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    pub uptime_s: u64,
    /// Of all cores together, 0 to 100.
    pub cpu_percent: f32,
    pub memory_used_bytes: u64,
    pub memory_total_bytes: u64,
    /// Resident memory of the agent itself.
    pub agent_rss_bytes: u64,
    pub disk_free_bytes: u64,
    pub temperature_c: Option<f32>,
    /// Entries waiting in the spool.
    pub spooled: u32,
}

/// What applications asked of a slot within the report's span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelStats {
    pub slot: SlotName,
    pub bundle: Digest,
    pub requests: u64,
    pub rows: u64,
    /// Requests that the model failed to answer (not those refused for being malformed).
    pub failures: u64,
    /// Requests refused as malformed.
    pub refused: u64,
    /// Counts by [`LATENCY_BOUNDS_US`] and one more.
    pub latency: Vec<u32>,
}

/// Counts of one span of world time; immutable once closed, keyed by (device, slot, bundle, from), added in any order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pane {
    pub slot: SlotName,
    pub bundle: Digest,
    pub from: Timestamp,
    pub to: Timestamp,
    /// One for each stream of the bundle's manifest, in its order.
    pub streams: Vec<Counts>,
}

/// Predictions whose labels matured, summed over one world day: how wrong the running bundle was, and how wrong the one
/// before it would have been *on the same inputs* (paired, so the day's difficulty cancels).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelBlock {
    pub slot: SlotName,
    pub bundle: Digest,
    /// Start of the world day.
    pub day: Timestamp,
    pub n: u64,
    pub label_sum: f64,
    pub prediction_sum: f64,
    /// Loss: squared error (for probabilities the Brier score).
    pub loss_sum: f64,
    pub loss_sum_sq: f64,
    pub against: Option<PairedLoss>,
}

/// Sums over the pairs of a block: the previous bundle's loss, and the difference `loss(bundle) - loss(previous)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedLoss {
    pub bundle: Digest,
    pub n: u64,
    pub loss_sum: f64,
    pub diff_sum: f64,
    pub diff_sum_sq: f64,
}

/// Rows that two bundles answered, one of them in the shadow: how many, and for how many it would have said something else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowBlock {
    pub slot: SlotName,
    /// The one in the shadow: it waits for its moment, or was there before.
    pub bundle: Digest,
    /// The one that answered.
    pub against: Digest,
    /// Start of the world day on which it is told.
    pub day: Timestamp,
    pub n: u64,
    pub differed: u64,
}

impl Report {
    pub fn encode(&self) -> Result<Vec<u8>, MessageError> {
        let mut bytes = postcard::to_extend(self, vec![VERSION]).map_err(MessageError::Report)?;
        if !self.shadows.is_empty() {
            bytes = postcard::to_extend(&self.shadows, bytes).map_err(MessageError::Report)?;
        }
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(MessageError::Long { bytes: bytes.len(), limit: REPORT_BYTES_MAX });
        }
        Ok(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(MessageError::Long { bytes: bytes.len(), limit: REPORT_BYTES_MAX });
        }
        let (&version, rest) = bytes.split_first().ok_or(MessageError::Version(0))?;
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let (mut report, mut more): (Self, _) =
            postcard::take_from_bytes(rest).map_err(MessageError::Report)?;
        if !more.is_empty() {
            (report.shadows, more) = postcard::take_from_bytes(more).map_err(MessageError::Report)?;
        }
        if !more.is_empty() {
            return Err(MessageError::Trailing(more.len()));
        }
        bound("report.models", report.models.len(), SLOTS_MAX)?;
        bound("report.panes", report.panes.len(), PANES_PER_REPORT_MAX)?;
        bound("report.labels", report.labels.len(), LABEL_BLOCKS_PER_REPORT_MAX)?;
        bound("report.shadows", report.shadows.len(), SLOTS_MAX)?;
        for pane in &report.panes {
            bound("report.panes.streams", pane.streams.len(), STREAMS_MAX)?;
        }
        for model in &report.models {
            bound("report.models.latency", model.latency.len(), LATENCY_BOUNDS_US.len() + 1)?;
        }
        Ok(report)
    }
}
