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
use tokio::sync::watch;
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
/// After failures in a row, at first and at most; doubled in between.
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
        let mut pause = Pause::of("drift", &one);
        while !stop_one.is_cancelled() {
            let looked = watchers.look(&one).await;
            pause.after(looked, &stop_one).await;
        }
    });
    let runs = set.spawn(async move {
        let mut asker = runs::Asker::default();
        let mut pause = Pause::of("runs", &two);
        while !stop_two.is_cancelled() {
            let looked = look_at_runs(&two, &mut asker).await;
            pause.after(looked, &stop_two).await;
        }
    });
    let registry = set.spawn(async move {
        let mut keeper = registry::Keeper::default();
        let mut pause = Pause::of("registry", &four);
        while !stop_three.is_cancelled() {
            let looked = keeper.look(&four).await.map(|()| None);
            pause.after(looked, &stop_three).await;
        }
    });
    let rollouts = set.spawn(async move {
        let mut driver = rollouts::Driver::new(&three);
        let mut pause = Pause::of("rollouts", &three);
        while !stop_four.is_cancelled() {
            let looked = driver.look(&three).await;
            pause.after(looked, &stop_four).await;
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

/// The wait of one task between two looks.
#[derive(Debug)]
struct Pause {
    task: &'static str,
    clocks: Clocks,
    commits: watch::Receiver<u64>,
    /// Looks in a row that failed.
    failures: u32,
}

impl Pause {
    fn of(task: &'static str, tasks: &Tasks) -> Self {
        Self { task, clocks: tasks.clocks, commits: tasks.store.changes().commits(), failures: 0 }
    }

    /// Waits until there may be something new: a commit, the world time asked for, or a while. After a failure time alone
    /// helps: what fails and is woken by each commit would fail many times a second, and the log would tell of nothing else.
    async fn after(&mut self, looked: Result<Option<Timestamp>, TaskError>, stop: &CancellationToken) {
        match looked {
            Ok(look_again) => {
                self.failures = 0;
                self.for_news(look_again, stop).await;
            }
            Err(error) => {
                let wait = back_off(self.failures);
                self.failures = self.failures.saturating_add(1);
                tracing::error!(
                    task = self.task,
                    failures = self.failures,
                    error = &error as &dyn std::error::Error,
                    "a background task failed; trying again"
                );
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }

    async fn for_news(&mut self, look_again: Option<Timestamp>, stop: &CancellationToken) {
        let world = self.clocks.world;
        let until = look_again.map(|time| world.wall_span(time.since(world.now())));
        let pause = until.unwrap_or(IDLE).clamp(SETTLE, IDLE);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            changed = self.commits.changed() => {
                if changed.is_ok() {
                    tokio::time::sleep(SETTLE).await;
                    self.commits.mark_unchanged();
                }
            }
        }
    }
}

/// How long a task waits that failed so often before, and now once more.
fn back_off(before: u32) -> Duration {
    BACK_OFF.0.saturating_mul(2_u32.saturating_pow(before)).min(BACK_OFF.1)
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

    #[test]
    fn failures_in_a_row_are_waited_for_longer_and_longer() {
        let check = |before: u32, millis: u64| {
            assert_eq!(back_off(before), Duration::from_millis(millis), "{before} failures before");
        };
        check(0, 200);
        check(1, 400);
        check(5, 6400);
        check(6, 10_000);
        check(u32::MAX, 10_000);
    }

    #[tokio::test]
    async fn a_task_that_fails_is_not_woken_by_commits_until_it_has_succeeded() {
        let (commits, heard) = watch::channel(0_u64);
        let mut pause = Pause { task: "test", clocks: Clocks::default(), commits: heard, failures: 0 };
        let stop = CancellationToken::new();
        let mut waited = async |looked: Result<Option<Timestamp>, TaskError>| {
            commits.send_modify(|count| *count += 1);
            let begun = tokio::time::Instant::now();
            pause.after(looked, &stop).await;
            (begun.elapsed(), pause.failures)
        };
        let damaged = || StoreError::Corrupt { what: "row", reason: "the test says so".to_owned() };
        for before in 0..2 {
            let (wait, failures) = waited(Err(damaged().into())).await;
            assert!(wait >= back_off(before), "{wait:?} after {failures} failures");
            assert_eq!(failures, before + 1);
        }
        let (wait, failures) = waited(Ok(None)).await;
        assert!(wait < IDLE && failures == 0, "{wait:?}: a commit wakes it again");
    }
}
