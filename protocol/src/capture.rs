//! Rows of live requests that a site keeps for itself because the fleet asked and the site's own policy allows it: what is
//! asked for, and how a box says that it does so or why not. The rows themselves have no word here: they never travel
//! with a message.

use serde::{Deserialize, Serialize};

use crate::ids::{CaptureId, Digest, IncidentId, SlotName};
use crate::limits::CAPTURE_ROWS_MAX;
use crate::time::Timestamp;

/// What the fleet asks of a box, in its signed order. It is a wish: the site's own policy decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureRequest {
    pub id: CaptureId,
    pub slot: SlotName,
    /// Only rows that this bundle answered.
    pub bundle: Digest,
    pub why: CaptureReason,
    /// Enough when there are so many.
    pub rows: u32,
    /// Real time.
    pub until: Timestamp,
    pub sample: Sampling,
}

/// What the rows are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureReason {
    Drift(IncidentId),
    LowConfidence,
    Review,
}

/// Which rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// The first of every so many.
    Every(u32),
    /// Those whose score lies between these, both included.
    Score(ScoreBand),
}

/// In thousandths: signed documents hold no fractions, because these have more than one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreBand {
    pub low_milli: i64,
    pub high_milli: i64,
}

impl CaptureRequest {
    /// What is wrong with it, for whoever would sign or follow it.
    pub fn fault(&self) -> Option<&'static str> {
        if !(1..=CAPTURE_ROWS_MAX).contains(&self.rows) {
            return Some("asks for no rows, or for more than one request may");
        }
        match self.sample {
            Sampling::Every(0) => Some("takes one of every 0 rows"),
            Sampling::Score(band) if band.low_milli > band.high_milli => {
                Some("takes scores between two numbers of which the first is the larger")
            }
            Sampling::Every(_) | Sampling::Score(_) => None,
        }
    }
}

impl ScoreBand {
    #[expect(clippy::cast_precision_loss, reason = "a score beyond 2^53 thousandths is no score")]
    pub fn holds(self, score: f64) -> bool {
        (self.low_milli as f64 / 1000.0..=self.high_milli as f64 / 1000.0).contains(&score)
    }
}

/// How a box stands to one request. Counts are told as any others: none of a few rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureState {
    pub request: CaptureId,
    pub slot: SlotName,
    pub standing: CaptureStanding,
    /// In finished files, told in steps of the site's *k*.
    pub rows: u64,
    /// Not kept because the disk was slower than the applications; in the same steps.
    pub dropped: u64,
    /// Files made of them.
    pub files: u32,
    /// Of these files, in steps of 64 KiB.
    pub bytes: u64,
}

macro_rules! standings {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $sentence:literal;)*) => {
        /// Whether rows are captured, or why not. None of these is a failure of the order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum CaptureStanding { $($(#[$doc])* #[serde(rename = $code)] $name),* }

        impl CaptureStanding {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Stable name for machines.
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// For people: what is, and what to do.
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$name => $sentence),* }
            }
        }
    };
}

standings! {
    Capturing = "capturing", "rows are captured for the site";
    Done = "done", "as many rows as were asked for are with the site";
    Over = "over", "the time that was asked for has passed";
    NoSitePolicy = "no-site-policy", "the site has no capture policy on this box, so nothing is captured";
    UnsafeSitePolicy = "unsafe-site-policy", "the site's capture policy could have been written by somebody else; its owner must be root or the agent, and nobody else may write it";
    UnreadableSitePolicy = "unreadable-site-policy", "the site's capture policy cannot be read or understood; the agent's log says why";
    SitePolicyOver = "site-policy-over", "the site's capture policy has run out; the site decides whether to renew it";
    SlotNotAllowed = "slot-not-allowed", "the site's capture policy does not name this slot";
    NoColumns = "no-columns", "none of the columns that the site's capture policy allows is an input of this bundle";
    OtherBundle = "other-bundle", "another bundle answers in this slot than the one that was asked about";
    TooFewRows = "too-few-rows", "so few rows were asked for that their count would tell of single patients";
    DayFull = "day-full", "the site's capture policy allows no more rows today";
    ClockSuspect = "clock-suspect", "the clock of this box cannot be right, so it cannot say whether it still may";
    DiskRefuses = "disk-refuses", "the files cannot be written; the agent's log says why";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_hold_their_ends() {
        let band = ScoreBand { low_milli: 400, high_milli: 600 };
        for (score, inside) in [(0.4, true), (0.5, true), (0.6, true), (0.399, false), (0.601, false)] {
            assert_eq!(band.holds(score), inside, "{score}");
        }
        assert!(!band.holds(f64::NAN));
    }

    #[test]
    fn standings_are_told_by_their_codes() {
        for &standing in CaptureStanding::ALL {
            let json = serde_json::to_value(standing).unwrap();
            assert_eq!(json, serde_json::json!(standing.code()));
        }
    }
}
