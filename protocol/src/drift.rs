//! Drift of one monitored column: counted on the box, judged by pure functions that box, fleet and tests share.
//!
//! ```text
//!  reference rows ──> Reference ───────────────┬───────────────────┐   signed, in the bundle
//!  (time-ordered)        │ fixed bins          │                   │
//!                        v                     v                   v
//!  values ──> Counter ──> Counts ──merge──> Counts ──> test() ──> Verdict ──> Alarm ──> AlarmState
//!             (on the box) (pane)           (window)     ^        p, b,       2 of 3,   insufficient,
//!                                                        │        effects     merges    ok, warn, drift
//!  reference windows ──> OverDispersion::replay ─────────┘
//!                                 │
//!        StreamReference ◀────────┘       of the bundle (training), of a site (baseline)
//!               │
//!               ├──> judge() ──> Alarm ──> Reading ──> attribute() ──> device, season, site, or new regime
//!               ├──> quality(): missing, unseen, out of range, stuck
//!               └──> Shift: how large, with its interval          stand_out(): which boxes, of thousands
//! ```
//!
//! The box sends counts and never values. Counts add exactly, in any order and grouping, so a merged pane is the pane
//! that would have been counted at once. Alarms rest on a calibrated p-value, not on a PSI or KS threshold: those
//! depend on the window's size and are reported as effect sizes only.
//!
//! Nothing here does I/O, reads a clock, draws a random number, logs or panics.

mod alarm;
mod attribution;
mod baseline;
mod components;
mod counter;
mod counts;
mod disclosure;
mod effects;
mod fixed;
mod fleet;
mod overdispersion;
pub mod performance;
mod quality;
mod reference;
mod shift;
pub mod special;
mod statistic;
mod stream;

pub use alarm::{Alarm, AlarmState, Effect, Phase, Rule, RuleError};
pub use attribution::{Attribution, Cause, DeviceReadings, Reading, StreamReadings, attribute};
pub use baseline::{BASELINE_WINDOWS_MIN, BASELINE_WINDOWS_WANTED, V_MAX, Weakness};
pub use counter::{CategoricalCounter, Counter, NumericCounter};
pub use counts::{Counts, CountsError, MAX_ROWS};
pub use disclosure::Floor;
pub use effects::{Effects, NumericEffects, psi, psi_critical};
pub use fleet::{benjamini_hochberg, stand_out};
pub use overdispersion::{MIN_REPLAY_WINDOWS, OverDispersion, OverDispersionError};
pub use quality::{QualityAnswer, QualityCheck, QualityLimits, QualityRule, STUCK_WINDOWS, quality};
pub use reference::{
    BINS, CategoricalReference, MAX_CATEGORIES, NumericReference, Reference, ReferenceError,
};
pub use shift::Shift;
pub use statistic::{Verdict, test};
pub use stream::{Judged, MergedReplay, StreamReference};
