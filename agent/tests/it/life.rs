//! The agent's life against a fleet: the real program, a real broker, real signatures, real OpenVINO.
//!
//! The fleet is a double that publishes, serves content and acknowledges as the tests say; what it hears is kept, and
//! every test waits until it has heard what it waits for.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod activation;
mod attacks;
mod broker;
mod bundle;
mod captures;
mod corpus;
mod crashes;
mod doctor;
mod door;
mod downloads;
mod enrolling;
mod fleet;
mod front;
mod membership;
mod moments;
mod pki;
mod process;
mod refusals;
mod revocations;
mod spooling;
mod starting;

use std::time::Duration;

/// Longer than anything takes on a loaded machine, shorter than anybody's patience.
const PATIENCE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Waits until `look` finds something.
async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, found).await.ok();
    found.unwrap_or_else(|| panic!("waited in vain for {what}"))
}
