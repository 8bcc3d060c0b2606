//! From counts to incidents: what has changed, where, since when, and what to do about it.
//!
//! ```text
//!   windows of one box ─▶ Watch: training · own · season · quality ─▶ Stand ─┐
//!                            └▶ Site: quiet windows ─▶ its baseline          ├▶ assess ─▶ reconcile ─▶ open · grow · close
//!   the same of every other box that runs the bundle ────────────────────────┤
//!   matured labels of all of them ─▶ Performance ────────────────────────────┘
//! ```
//! One box alone is a box's matter (a sensor, a camera), one site a site's, and a season that came before is nobody's.
//! Only a change that half of the sites see, that no season explains and that the model was not trained on asks for
//! retraining. What has too few rows is *insufficient*, which is never "no drift".
//!
//! Pure. The statistics are `muster_protocol::drift`, the same on the box and here; all times are world time.

mod baseline;
mod finding;
mod incident;
mod performance;
mod season;
mod watch;

#[cfg(test)]
mod tests;

use muster_protocol::drift::QualityRule;

pub use baseline::{Baseline, Difference, Site, WindowAt};
pub use finding::{Finding, FoundStream, Kind, Stand, StreamStand, assess};
pub use incident::{FLEET, Incident, IncidentState, OPEN_MAX, Reconciled, reconcile};
pub use performance::{Holdout, LabelSums, Performance, PerformanceDay, Promise, ScoreStream};
pub use season::Season;
pub use watch::{
    Against, Broken, Counted, Judge, Look, Needs, References, StreamReading, StreamWatch, Watch, WatchError,
    WindowReading,
};

/// What is wrong with a stream's data, as a sentence says it.
pub fn broken_word(rule: QualityRule) -> &'static str {
    match rule {
        QualityRule::Missing => "is missing more or less often",
        QualityRule::Unseen => "has values never seen before",
        QualityRule::OutOfRange => "leaves its range",
        QualityRule::Stuck => "is stuck at one value",
    }
}
