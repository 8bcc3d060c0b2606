//! What the fleet does by itself, all day: look, decide, save, say.
//!
//! ```text
//!   every commit, and when time alone may change an answer
//!     ├─▶ drift     windows ─▶ alarms ─▶ incidents ─▶ triggers ─▶ runs
//!     ├─▶ registry  who is champion and challenger now
//!     ├─▶ runs      data collected? lease lost? published? ─▶ a rollout
//!     └─▶ rollouts  what the minds say becomes orders, members and log entries, in one transaction
//! ```
//! Each task loads the whole truth, asks its mind and saves with a compare-and-swap; so a server that was killed at any
//! point continues by doing the same again. A task takes no input: whatever woke it, it looks at everything.

pub mod drift;
pub mod lineage;
pub mod registry;
pub mod rollouts;
pub mod runs;
pub mod view;

use std::time::Duration;

use muster_protocol::time::Timestamp;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::blob::Blobs;
use crate::clock::Clocks;
use crate::mint::MintError;
use crate::orders::{OrderError, Orders};
use crate::roster::{Board, RosterError};
use crate::store::{Store, StoreError};

/// A burst of commits is looked at once.
const SETTLE: Duration = Duration::from_millis(50);
/// However quiet it is, look again.
const IDLE: Duration = Duration::from_secs(5);
/// After a failure, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The hands that tasks work with.
#[derive(Clone, Debug)]
pub struct Tasks {
    pub store: Store,
    pub blobs: Blobs,
    pub orders: Orders,
    pub clocks: Clocks,
    /// Where rollouts hang for those who only look.
    pub board: Board,
}

#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    #[error("the database failed")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Roster(#[from] RosterError),
    #[error("a bundle's drift reference could not be read")]
    Reference(#[source] crate::blob::BlobError),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error("an order could not be made")]
    Order(#[from] OrderError),
}

/// Runs all tasks until `stop`. A failure is logged and tried again; it never ends a task. Should one end all the same, the
/// others end too: with three of four at work a server would look well and do half of it.
pub async fn run(tasks: Tasks, stop: CancellationToken) {
    let quit = stop.child_token();
    let mut set = JoinSet::new();
    let (one, two, three, four) = (tasks.clone(), tasks.clone(), tasks.clone(), tasks);
    let [stop_one, stop_two, stop_three, stop_four] = std::array::from_fn(|_| quit.clone());
    let drift = set.spawn(async move {
        let mut watchers = drift::Watchers::default();
        let mut commits = one.store.changes().commits();
        while !stop_one.is_cancelled() {
            let looked = watchers.look(&one).await;
            rest("drift", &one.clocks, looked, &mut commits, &stop_one).await;
        }
    });
    let runs = set.spawn(async move {
        let mut asker = runs::Asker::default();
        let mut commits = two.store.changes().commits();
        while !stop_two.is_cancelled() {
            let looked = look_at_runs(&two, &mut asker).await;
            rest("runs", &two.clocks, looked, &mut commits, &stop_two).await;
        }
    });
    let registry = set.spawn(async move {
        let mut keeper = registry::Keeper::default();
        let mut commits = four.store.changes().commits();
        while !stop_three.is_cancelled() {
            let looked = keeper.look(&four).await.map(|()| None);
            rest("registry", &four.clocks, looked, &mut commits, &stop_three).await;
        }
    });
    let rollouts = set.spawn(async move {
        let mut driver = rollouts::Driver::new(&three);
        let mut commits = three.store.changes().commits();
        while !stop_four.is_cancelled() {
            let looked = driver.look(&three).await;
            rest("rollouts", &three.clocks, looked, &mut commits, &stop_four).await;
        }
    });
    let names = [
        (drift.id(), "drift"),
        (runs.id(), "runs"),
        (registry.id(), "registry"),
        (rollouts.id(), "rollouts"),
    ];
    together(set, &names, &stop, &quit).await;
}

/// Waits for the first task to end, which before `stop` is a failure, and then for the others, which `quit` ends.
async fn together(
    mut set: JoinSet<()>,
    names: &[(Id, &str)],
    stop: &CancellationToken,
    quit: &CancellationToken,
) {
    let name = |id: Id| names.iter().find(|(of, _)| *of == id).map_or("unknown", |(_, name)| *name);
    match set.join_next_with_id().await {
        Some(Ok((id, ()))) if !stop.is_cancelled() => {
            tracing::error!(task = name(id), "a background task ended by itself");
        }
        Some(Err(error)) => tracing::error!(
            task = name(error.id()),
            error = &error as &dyn std::error::Error,
            "a background task ended by itself"
        ),
        Some(Ok(_)) | None => {}
    }
    quit.cancel();
    while set.join_next().await.is_some() {}
}

/// What the calendar asks for, then every run that may move by itself.
async fn look_at_runs(tasks: &Tasks, asker: &mut runs::Asker) -> Result<Option<Timestamp>, TaskError> {
    let due = asker.look(tasks).await?;
    let moves = runs::look(tasks).await?;
    Ok([due, moves].into_iter().flatten().min())
}

/// Waits until there may be something new: a commit, the world time asked for, or a while.
async fn rest(
    task: &'static str,
    clocks: &Clocks,
    looked: Result<Option<Timestamp>, TaskError>,
    commits: &mut tokio::sync::watch::Receiver<u64>,
    stop: &CancellationToken,
) {
    let pause = match looked {
        Ok(look_again) => {
            let until = look_again.map(|time| clocks.world.wall_span(time.since(clocks.world.now())));
            until.unwrap_or(IDLE).clamp(SETTLE, IDLE)
        }
        Err(error) => {
            tracing::error!(
                task,
                error = &error as &dyn std::error::Error,
                "a background task failed; trying again"
            );
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(BACK_OFF.0) => {}
            }
            BACK_OFF.1
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(pause) => {}
        changed = commits.changed() => {
            if changed.is_ok() {
                tokio::time::sleep(SETTLE).await;
                commits.mark_unchanged();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn when_one_task_ends_the_others_do() {
        for fails in [false, true] {
            let stop = CancellationToken::new();
            let quit = stop.child_token();
            let mut set = JoinSet::new();
            let short = set.spawn(async move { assert!(!fails, "a bug") });
            let told = quit.clone();
            set.spawn(async move { told.cancelled().await });
            together(set, &[(short.id(), "short")], &stop, &quit).await;
            assert!(quit.is_cancelled() && !stop.is_cancelled());
        }
    }
}
