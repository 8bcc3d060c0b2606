//! Whether the model's answers still come true, from labels whose time has come.
//!
//! Two questions a day, of all boxes together: do as many positives come as the probabilities promised (observed against
//! expected), and is the loss what it was on the holdout that the bundle was released with? Inputs can drift without
//! harm, and a model can fail while no input moves: only labels tell.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_protocol::drift::performance::{Moments, ObservedExpected, is_matured, label_rule};
use muster_protocol::drift::special::chi2_sf;
use muster_protocol::drift::{Alarm, AlarmState, Effect, Rule};
use muster_protocol::manifest::{Datatype, Manifest, Source, Stream, Task};
use muster_protocol::time::Timestamp;

use super::finding::{Finding, Kind};

/// The labels of one world day's predictions, all boxes together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelSums {
    pub day: Timestamp,
    /// Predictions that were made on the day, labelled or not.
    pub predictions: u64,
    pub n: u64,
    pub label_sum: f64,
    pub prediction_sum: f64,
    pub loss_sum: f64,
    pub loss_sum_sq: f64,
}

/// What was promised when the bundle was released.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Promise {
    /// Whether its answers are probabilities: then there is an expected number of positives.
    pub is_probability: bool,
    /// The same loss as boxes measure, on the holdout.
    pub holdout: Option<Holdout>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Holdout {
    pub loss: f64,
    pub rows: u64,
}

/// Where a model's own probabilities are counted, and how they are answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreStream {
    /// Among the monitored streams.
    pub place: usize,
    pub threshold: Option<f64>,
}

impl ScoreStream {
    /// The stream of the probability that boxes remember for a label. None if it is not monitored, or not a probability.
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let is_probability = Promise::of(manifest).is_probability;
        let mut outputs = manifest.signature.outputs.iter();
        let score = outputs.find(|output| matches!(output.datatype, Datatype::Fp32 | Datatype::Fp64))?;
        let positive = usize::from(score.shape.get(1) == Some(&2));
        let is_score = |stream: &Stream| match &stream.source {
            Source::Numeric { tensor, column, null_when_column: None } => {
                *tensor == score.name && *column == positive
            }
            Source::Numeric { .. } | Source::OneHot { .. } => false,
        };
        let place = manifest.monitoring.streams.iter().position(is_score).filter(|_| is_probability)?;
        let threshold = manifest.evaluation.as_ref().and_then(|made| made.threshold);
        Some(Self { place, threshold })
    }
}

/// One day, or as many days in a row as it takes for enough labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerformanceDay {
    pub from: Timestamp,
    pub days: u32,
    pub predictions: u64,
    pub labels: u64,
    pub state: AlarmState,
    pub observed: f64,
    pub expected: Option<f64>,
    /// Positives that came above those promised, in standard errors.
    pub z: Option<f64>,
    pub loss: Option<f64>,
    pub holdout_loss: Option<f64>,
    /// The loss above the holdout's, in standard errors.
    pub loss_z: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Performance {
    /// The oldest first.
    pub days: Vec<PerformanceDay>,
    /// Since when the alarm stands.
    pub since: Option<Timestamp>,
    /// Predictions that are old enough for their labels, and those of them that have one.
    pub matured: u64,
    pub labelled: u64,
    /// Predictions that are too young.
    pub waiting: u64,
}

impl Promise {
    /// From the most recent set that the bundle was judged on. Boxes measure squared errors, so another metric is no promise.
    pub fn of(manifest: &Manifest) -> Self {
        let is_probability = match manifest.task {
            Task::Binary => true,
            Task::Classification | Task::Regression => false,
        };
        let brier = manifest.evaluation.as_ref().filter(|made| made.metric == "brier");
        let set = brier.and_then(|made| {
            let named = |name: &str| made.sets.iter().find(|set| set.name == name);
            named("recent").or_else(|| named("frozen")).or_else(|| made.sets.last())
        });
        Self { is_probability, holdout: set.map(|set| Holdout { loss: set.challenger, rows: set.rows }) }
    }
}

impl Performance {
    /// Reads the days, oldest first.
    pub fn of(days: &[LabelSums], promise: Promise, horizon: Duration, now: Timestamp) -> Self {
        let mut found = Self::default();
        let (rule, n_min) = (label_rule(), Rule::default().n_min());
        let mut alarm = Alarm::default();
        let mut since: Option<Timestamp> = None;
        let mut open: Option<(LabelSums, u32)> = None;
        for day in days {
            if !is_matured(day.day, horizon, now) {
                found.waiting += day.predictions;
                continue;
            }
            // Of a day so long ago that its predictions are kept no more, nobody knows which share has labels.
            if day.predictions > 0 {
                found.matured += day.predictions.max(day.n);
                found.labelled += day.n;
            }
            let (sums, count) = match open.take() {
                None => (*day, 1),
                Some((sums, count)) => (sums.plus(day), count + 1),
            };
            if sums.n < n_min {
                open = Some((sums, count));
                continue;
            }
            let (mut read, p) = sums.read(count, promise);
            read.state = alarm.step(&rule, p, Effect::Relevant, &[]);
            match read.state {
                AlarmState::Warn | AlarmState::Drift => since = since.or(Some(read.from)),
                AlarmState::Ok => since = None,
                AlarmState::Insufficient => {}
            }
            found.since = since.filter(|_| read.state == AlarmState::Drift);
            found.days.push(read);
        }
        if let Some((sums, count)) = open {
            found
                .days
                .push(PerformanceDay { state: AlarmState::Insufficient, ..sums.read(count, promise).0 });
        }
        found
    }

    pub fn finding(&self) -> Option<Finding> {
        let (onset, last) = (self.since?, self.days.iter().rev().find(|day| day.state == AlarmState::Drift)?);
        let mut said = Vec::new();
        if let (Some(expected), Some(z)) = (last.expected, last.z) {
            said.push(format!("{:.0} came where {expected:.1} were promised (z {z:+.1})", last.observed));
        }
        if let (Some(loss), Some(holdout)) = (last.loss, last.holdout_loss) {
            said.push(format!("the loss is {loss:.3}, {holdout:.3} on the holdout"));
        }
        let reason = format!("on two of three days, or on one beyond doubt: {}", said.join(", and "));
        let (devices, sites) = (BTreeSet::new(), BTreeSet::new());
        Some(Finding { kind: Kind::Performance, onset, devices, sites, streams: Vec::new(), reason })
    }
}

impl LabelSums {
    fn plus(&self, more: &Self) -> Self {
        Self {
            day: self.day,
            predictions: self.predictions + more.predictions,
            n: self.n + more.n,
            label_sum: self.label_sum + more.label_sum,
            prediction_sum: self.prediction_sum + more.prediction_sum,
            loss_sum: self.loss_sum + more.loss_sum,
            loss_sum_sq: self.loss_sum_sq + more.loss_sum_sq,
        }
    }

    /// The numbers, and the chance of worse ones without a change.
    fn read(&self, days: u32, promise: Promise) -> (PerformanceDay, f64) {
        let holdout = promise.holdout;
        let calibration = promise
            .is_probability
            .then(|| ObservedExpected::of_sums(self.n, self.label_sum, self.prediction_sum));
        let z = calibration.and_then(|sums| sums.z());
        let losses = Moments { n: self.n, sum: self.loss_sum, sum_sq: self.loss_sum_sq };
        let loss = losses.mean();
        let loss_z = holdout.and_then(|holdout| {
            #[expect(clippy::cast_precision_loss, reason = "counts of rows")]
            let chance = 1.0 / self.n as f64 + 1.0 / holdout.rows.max(1) as f64;
            let error = (losses.variance()? * chance).sqrt();
            (error > 0.0).then(|| (losses.mean().unwrap_or(0.0) - holdout.loss) / error)
        });
        let chances = [
            z.map(|z| chi2_sf(z * z, 1.0)),
            loss_z.map(|z| if z > 0.0 { chi2_sf(z * z, 1.0) / 2.0 } else { 1.0 }),
        ];
        let told = chances.iter().flatten().count().max(1);
        #[expect(clippy::cast_precision_loss, reason = "one or two")]
        let p = (chances.iter().flatten().fold(1.0, |least: f64, p| least.min(*p)) * told as f64).min(1.0);
        let day = PerformanceDay {
            from: self.day,
            days,
            predictions: self.predictions,
            labels: self.n,
            state: AlarmState::Ok,
            observed: self.label_sum,
            expected: calibration.map(|sums| sums.expected),
            z,
            loss,
            holdout_loss: holdout.map(|holdout| holdout.loss),
            loss_z,
        };
        (day, p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const PROMISE: Promise =
        Promise { is_probability: true, holdout: Some(Holdout { loss: 0.09, rows: 5000 }) };

    fn at(day: i64) -> Timestamp {
        Timestamp::from_seconds(day * 86_400)
    }

    /// A day of 400 predictions of 0.1 of which `came` were positive, and all were labelled.
    fn day(day: i64, came: u64) -> LabelSums {
        #[expect(clippy::cast_precision_loss, reason = "test data")]
        let (came, others) = (came as f64, (400 - came) as f64);
        LabelSums {
            day: at(day),
            predictions: 500,
            n: 400,
            label_sum: came,
            prediction_sum: 40.0,
            loss_sum: came * 0.81 + others * 0.01,
            loss_sum_sq: came * 0.81 * 0.81 + others * 0.01 * 0.01,
        }
    }

    fn states(days: &[LabelSums]) -> Vec<AlarmState> {
        let read = Performance::of(days, PROMISE, DAY, at(100));
        read.days.iter().map(|day| day.state).collect()
    }

    #[test]
    fn promises_that_come_true_raise_nothing() {
        assert_eq!(states(&[day(0, 40), day(1, 35), day(2, 47)]), [AlarmState::Ok; 3]);
    }

    #[test]
    fn two_bad_days_of_three_are_an_alarm_and_so_is_one_beyond_doubt() {
        assert_eq!(
            states(&[day(0, 65), day(1, 40), day(2, 65)]),
            [AlarmState::Warn, AlarmState::Ok, AlarmState::Drift]
        );
        let doubtless = Performance::of(&[day(0, 40), day(1, 140)], PROMISE, DAY, at(100));
        let finding = doubtless.finding().unwrap();
        assert_eq!((finding.kind, finding.onset), (Kind::Performance, at(1)));
        assert!(finding.reason.contains("140 came where 40.0 were promised"), "{}", finding.reason);
        let fewer = Performance::of(&[day(0, 2), day(1, 2)], PROMISE, DAY, at(100));
        assert!(fewer.finding().is_some(), "promising too much is as wrong");
    }

    #[test]
    fn a_day_counts_when_its_labels_are_due_and_not_before() {
        let read = Performance::of(&[day(0, 40), day(1, 140)], PROMISE, DAY, at(2));
        assert_eq!((read.days.len(), read.matured, read.labelled, read.waiting), (1, 500, 400, 500));
        assert_eq!(read.finding(), None);
    }

    #[test]
    fn few_labels_wait_for_more() {
        let few = |at| LabelSums {
            n: 30,
            label_sum: 3.0,
            prediction_sum: 3.0,
            loss_sum: 2.7,
            loss_sum_sq: 1.9,
            ..day(at, 0)
        };
        let read = Performance::of(&[few(0), few(1), few(2)], PROMISE, DAY, at(100));
        let shape: Vec<_> = read.days.iter().map(|day| (day.days, day.labels, day.state)).collect();
        assert_eq!(shape, [(2, 60, AlarmState::Ok), (1, 30, AlarmState::Insufficient)]);
    }

    #[test]
    fn a_model_that_promises_nothing_is_shown_and_not_judged() {
        let read = Performance::of(&[day(0, 140), day(1, 140)], Promise::default(), DAY, at(100));
        assert!(read.days.iter().all(|day| day.state == AlarmState::Ok && day.z.is_none()));
    }
}
