//! How far a bad bundle gets: a small form of `make bench-gates`, with the real engine.

mod model;

use model::{BUGS, Bundle, HEALTHY, groups, ours, percentile, rate, waves};

const DEVICES: usize = 300;
const SEEDS: u64 = 5;

fn exposed(policy: fn(usize, Bundle, u64) -> model::Outcome, bundle: Bundle) -> usize {
    percentile((0..SEEDS).map(|seed| policy(DEVICES, bundle, seed).exposed).collect(), 50)
}

#[test]
fn a_bundle_that_fails_is_stopped_before_it_is_everywhere() {
    for bug in BUGS {
        let exposed = exposed(ours, bug);
        assert!((1..DEVICES).contains(&exposed), "{}: {exposed} of {DEVICES} exposed", bug.name);
    }
    for bug in [BUGS[0], BUGS[2]] {
        let exposed = exposed(ours, bug);
        assert!(exposed <= 50, "{}: {exposed} of {DEVICES} exposed", bug.name);
    }
}

#[test]
fn a_healthy_bundle_reaches_everybody_who_is_there() {
    for bundle in HEALTHY {
        for seed in 0..SEEDS {
            let outcome = ours(DEVICES, bundle, seed);
            assert_eq!(outcome.stopped, None, "{}, seed {seed}", bundle.name);
            // Of a fleet of which 15 % are away at any moment.
            assert!(outcome.exposed > DEVICES * 8 / 10, "{}, seed {seed}: {outcome:?}", bundle.name);
        }
    }
}

/// What each documented policy does by its own rules.
#[test]
fn the_models_follow_their_documents() {
    let broken = Bundle { name: "all fail", fails_install: 1.0, fails_late: 0.0 };
    assert!(exposed(groups, broken) < DEVICES / 5, "the first group's errors pause it");
    assert!(exposed(rate, broken) < DEVICES, "one fifth of a hundred failures cancels it");
    assert_eq!(exposed(waves, broken), DEVICES, "a clock looks at nothing");
    for late in [BUGS[2], BUGS[3]] {
        for policy in [groups, rate, waves] {
            assert_eq!(exposed(policy, late), DEVICES, "an installed bundle is a success for good");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_rollout() {
    assert_eq!(ours(100, BUGS[3], 3), ours(100, BUGS[3], 3));
}
