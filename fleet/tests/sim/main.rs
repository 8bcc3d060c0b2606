//! Fleets that never were: the real minds of the fleet and of its boxes, with everything else made up from a seed.
//!
//! ```text
//!   setting ─▶ world: one queue of events ◀── operators, weather, time
//!                │            │
//!           boxes (agent's mind)   fleet (rollout engine)
//!                └────────────┬──┘
//!                     invariants, after every look, act and activation;  coverage
//! ```
//! Time costs nothing here and a look does, so a rollout is asked only as the server asks it: when something that it looks at
//! has changed, when the engine said so, or now and then. A world ends when nothing has moved for longer than any deadline.
//!
//! `make sim RUNS=100000` runs a campaign; a seed that fails goes into `regressions.txt` and is run for ever after.
//! `fleet/tests/scripts` are stories in the same world, with calm weather and an operator who can read.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a run that goes wrong should stop, and say where"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::unnecessary_wraps,
    clippy::assigning_clones,
    clippy::wildcard_enum_match_arm,
    reason = "small made-up numbers; a world that is matched by what matters to the story"
)]

mod boxes;
mod campaign;
mod coverage;
mod fleet;
mod invariants;
mod mutants;
mod nature;
mod operators;
mod rng;
mod script;
mod setting;
mod story;
mod world;

/// In `make test`: enough to see a coarse mistake, fast enough for every day.
#[test]
fn sixty_fleets_keep_the_invariants() {
    campaign::seeds(0..60);
}

#[test]
fn what_failed_once_does_not_fail_again() {
    campaign::regressions();
}

#[test]
fn every_deliberate_bug_still_fits_the_source() {
    mutants::fit();
}

#[test]
fn the_stories_go_as_they_are_written() {
    script::all();
}

/// `make sim`.
#[test]
#[ignore = "runs for minutes; `make sim` calls it"]
fn a_campaign() {
    campaign::run();
}
