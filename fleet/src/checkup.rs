//! What this server finds when it looks at itself, for `muster doctor`: each part is asked, and judged, with what to do next.
//!
//! Every question has a deadline, and they are asked at the same time: one that hangs is told as such and holds up no other.
//! It changes nothing that lasts; whether the databases take writes is tried by one that is given up.

mod judge;
mod keys;
mod parts;

use std::future::Future;
use std::time::Duration;

use muster_protocol::checkup::Finding;

use crate::fleet::Fleet;

/// How long one part may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub async fn look(fleet: &Fleet) -> Vec<Finding> {
    let now = fleet.clocks.trust.now();
    let (database, telemetry, broker, work, blobs, datasets, trust) = tokio::join!(
        within("database", parts::database(fleet)),
        within("telemetry", parts::telemetry(fleet)),
        within("broker", parts::broker(fleet)),
        within("work", parts::work(fleet, now)),
        within("blobs", parts::blobs(fleet)),
        within("datasets", parts::datasets(fleet)),
        within("trust", keys::trust(fleet, now)),
    );
    let mut found = Vec::new();
    found.extend(database);
    found.extend(telemetry);
    found.push(parts::disk(fleet));
    found.extend(broker);
    found.extend(trust);
    found.extend(keys::certificates(&fleet.pki.view(), now));
    found.extend(blobs);
    found.extend(datasets);
    found.extend(work);
    found.push(parts::access(fleet));
    found
}

async fn within(check: &str, question: impl Future<Output = Vec<Finding>> + Send) -> Vec<Finding> {
    patiently(check, ANSWER_WITHIN, question).await
}

async fn patiently(
    check: &str,
    patience: Duration,
    question: impl Future<Output = Vec<Finding>> + Send,
) -> Vec<Finding> {
    tokio::time::timeout(patience, question).await.unwrap_or_else(|_| {
        let says = format!("no answer within {} s", patience.as_secs());
        let next = "look at the fleet server's log and at the load of its machine and disk";
        vec![Finding::fail(check, says, next)]
    })
}

/// An error with its causes, as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use muster_protocol::checkup::Condition;

    use super::*;

    #[tokio::test]
    async fn a_part_that_hangs_is_told_and_holds_up_no_other() {
        let found = patiently("blobs", Duration::from_millis(1), std::future::pending()).await;
        assert_eq!((found[0].check.as_str(), found[0].state), ("blobs", Condition::Fail));
        let found = within("blobs", async { vec![Finding::ok("blobs", "here")] }).await;
        assert_eq!(found, [Finding::ok("blobs", "here")]);
    }
}
