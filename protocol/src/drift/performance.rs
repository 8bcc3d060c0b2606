//! How well a model does: estimated from its own scores while labels are out, and measured when they have matured.
//!
//! ```text
//!   bins of the score's stream ──> Estimated ─────> positives to come, squared error, accuracy; with their limits
//!   matured labels ─────> ObservedExpected ───────> observed / expected, z, Spiegelhalter's z
//!                         Moments ────────────────> prediction-powered loss · regression's residual z and MAE ratio
//! ```
//!
//! An estimate without labels believes the model's probabilities. It sees a harder mix of cases, and never that the same
//! case has come to mean something else: only labels do. Labels count once their horizon has passed, for all outcomes
//! alike; early ones are the positives, and would bias the rate.

mod estimated;
mod matured;

pub use estimated::{Estimated, Within};
pub use matured::{
    Estimate, Moments, ObservedExpected, RegressionHoldout, Residuals, is_matured, label_rule,
    prediction_powered,
};
