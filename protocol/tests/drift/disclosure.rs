//! What it costs drift detection that a box tells small groups only as parts of larger ones: the same rows, judged from
//! full counts and from what leaves the box (panes of [`Floor::full`] rows, the rest at the window's end).

#![expect(clippy::unwrap_used, reason = "counts of one reference that do not add up fail the test")]

use std::collections::VecDeque;

use muster_protocol::drift::{Alarm, Counter, Counts, Floor, Phase, Reference, Rule, StreamReference};

#[path = "../../benches/drift/noise.rs"]
mod noise;

use noise::Noise;

/// Columns that are monitored together; only one is drawn, the others would be alike.
const MONITORED: u32 = 20;
const REFERENCE_ROWS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    None,
    Mean(f64),
    Spread(f64),
    /// A share of rows takes one value in the middle.
    Spike(f64),
    Missing(f64),
}

fn row(noise: &mut Noise, change: Change) -> f32 {
    let usual = noise.normal();
    let hit = noise.uniform();
    let value = match change {
        Change::None => usual,
        Change::Mean(by) => usual + by,
        Change::Spread(times) => usual * times,
        Change::Spike(share) => {
            if hit < share {
                0.31
            } else {
                usual
            }
        }
        Change::Missing(share) => {
            if hit < share {
                f64::NAN
            } else {
                usual
            }
        }
    };
    #[expect(clippy::cast_possible_truncation, reason = "models see f32")]
    let value = value as f32;
    value
}

/// One window of `n` rows as it is counted, and as the box tells it.
fn window(learnt: &StreamReference, noise: &mut Noise, n: u64, change: Change) -> [Counts; 2] {
    let k = Floor::LEAST;
    let mut counter = Counter::new(&learnt.reference);
    let (mut full, mut told) = (Counts::empty(&learnt.reference), Counts::empty(&learnt.reference));
    for at in 1..=n {
        if let Counter::Numeric(counter) = &mut counter {
            counter.observe(row(noise, change));
        }
        if at % k.full() == 0 || at == n {
            let pane = counter.take();
            full.merge(&pane).unwrap();
            told.merge(&pane.disclosed(&learnt.reference, k)).unwrap();
        }
    }
    [full, told]
}

fn learn(noise: &mut Noise, n: u64) -> StreamReference {
    let rows: Vec<f32> = (0..REFERENCE_ROWS).map(|_| row(noise, Change::None)).collect();
    let reference = Reference::numeric(&rows).unwrap();
    let mut counter = Counter::new(&reference);
    let windows = rows.chunks_exact(usize::try_from(n).unwrap()).map(|rows| {
        if let Counter::Numeric(counter) = &mut counter {
            counter.observe_all(rows);
        }
        counter.take()
    });
    let windows = vec![windows.collect()];
    StreamReference::replay(reference, &windows, &Rule::default()).unwrap()
}

#[derive(Default)]
struct Watch {
    last: VecDeque<Counts>,
    alarm: Alarm,
}

impl Watch {
    /// Whether an alarm is up after this window.
    fn look(&mut self, learnt: &StreamReference, window: Counts) -> bool {
        let rule = Rule::default();
        self.last.push_back(window);
        if self.last.len() > usize::try_from(rule.windows_kept()).unwrap() {
            self.last.pop_front();
        }
        let judged = learnt.judge(&rule, self.last.make_contiguous(), MONITORED).unwrap();
        self.alarm.observe(&rule, judged.window.as_ref(), &judged.merged);
        matches!(self.alarm.phase(), Phase::Raised { .. })
    }
}

/// Windows until the alarm, at most 60, from full counts and from those told: sorted, one of each life.
fn delays(n: u64, change: Change, lives: u64) -> [Vec<u32>; 2] {
    let mut delays = [Vec::new(), Vec::new()];
    for life in 0..lives {
        let mut noise = Noise::new(n * 1_000 + life);
        let learnt = learn(&mut noise, n);
        let mut watches = [Watch::default(), Watch::default()];
        let mut found = [60, 60];
        for at in 1..=60 {
            for ((watch, counts), found) in
                watches.iter_mut().zip(window(&learnt, &mut noise, n, change)).zip(&mut found)
            {
                if watch.look(&learnt, counts) {
                    *found = at.min(*found);
                }
            }
            if found.iter().all(|&found| found < 60) {
                break;
            }
        }
        for (delays, found) in delays.iter_mut().zip(found) {
            delays.push(found);
        }
    }
    for delays in &mut delays {
        delays.sort_unstable();
    }
    delays
}

/// Windows in which an alarm goes up though nothing changed.
fn false_alarms(n: u64, windows: u32) -> [u32; 2] {
    let mut onsets = [0, 0];
    for life in 0..u64::from(windows / 100) {
        let mut noise = Noise::new(n * 7_000 + life);
        let learnt = learn(&mut noise, n);
        let mut watches = [Watch::default(), Watch::default()];
        let mut up = [false, false];
        for _ in 0..100 {
            let both = window(&learnt, &mut noise, n, Change::None);
            for (at, counts) in both.into_iter().enumerate() {
                let now = watches[at].look(&learnt, counts);
                onsets[at] += u32::from(now && !up[at]);
                up[at] = now;
            }
        }
    }
    onsets
}

#[test]
fn what_is_told_finds_what_full_counts_find() {
    let changes = [
        Change::Mean(1.0),
        Change::Mean(0.5),
        Change::Mean(-0.5),
        Change::Mean(0.25),
        Change::Spread(1.5),
        Change::Spike(0.1),
        Change::Missing(0.1),
    ];
    println!(
        "windows until the alarm, median and 9 of 10, from full counts | from those told (60: not in 60 windows)"
    );
    for n in [50, 100, 123, 200, 500, 1000] {
        for change in changes {
            let [full, told] = delays(n, change, 40);
            println!(
                "n {n:>4} {change:>13?}  {:>2} {:>2} | {:>2} {:>2}",
                full[20], full[36], told[20], told[36]
            );
            if n >= 100 {
                assert!(told[20] <= full[20] + 1, "n {n} {change:?}: the median");
                assert!(told[36] <= full[36] * 3 / 2 + 2, "n {n} {change:?}: 9 of 10");
            }
        }
        let [full, told] = false_alarms(n, 2_000);
        println!("n {n:>4} nothing changed: alarms in 2,000 windows {full} | {told}");
        assert!(told <= full + 1, "n {n}: {told} false alarms and not {full}");
    }
}
