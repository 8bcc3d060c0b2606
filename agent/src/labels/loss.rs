//! What a model said of one row, and how wrong that was.

use muster_protocol::manifest::{Manifest, Task};

use crate::oip::{NamedTensor, Tensor};

/// Quantities closer than this part of the larger one are alike.
const QUANTITY_OFF: f64 = 0.1;

/// No label, answer or loss is as large as this: the sums of many, and of their squares, stay numbers.
const SCORED_MAX: f64 = 1e100;

/// A model's answer for one row.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// A probability (of the positive class) or a quantity.
    Number(f64),
    /// One probability a class.
    Classes(Vec<f64>),
}

/// One label's contribution to its block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scored {
    /// As it came: a class's position, a probability, a quantity.
    pub given: f64,
    pub label: f64,
    pub prediction: f64,
    pub loss: f64,
}

impl Scored {
    /// What cannot be summed, or compared by squares, is no contribution.
    fn usable(self) -> Option<Self> {
        let all = [self.label, self.prediction, self.loss];
        all.iter().all(|value| value.abs() < SCORED_MAX).then_some(self)
    }
}

impl Prediction {
    /// Reads one prediction a row from a model's outputs: its first floating-point output is the score. A binary model
    /// with two columns says the positive class's probability in the second, as scikit-learn does.
    pub fn of(manifest: &Manifest, outputs: &[NamedTensor]) -> Vec<Self> {
        let declared = manifest.signature.outputs.iter().map(|output| &output.name);
        let score =
            declared.filter_map(|name| outputs.iter().find(|output| output.name == *name)).find(|output| {
                matches!(output.tensor.values, crate::oip::Values::Fp32(_) | crate::oip::Values::Fp64(_))
            });
        let Some(NamedTensor { tensor, .. }) = score else { return Vec::new() };
        (0..tensor.rows()).filter_map(|row| Self::of_row(manifest.task, tensor, row)).collect()
    }

    fn of_row(task: Task, tensor: &Tensor, row: usize) -> Option<Self> {
        let columns = tensor.row_len();
        let cell = |column: usize| tensor.values.get(row * columns + column);
        match task {
            Task::Binary => cell(usize::from(columns == 2)).map(Self::Number),
            Task::Regression => cell(0).map(Self::Number),
            Task::Classification => (0..columns).map(cell).collect::<Option<Vec<_>>>().map(Self::Classes),
        }
    }

    /// Whether it says something else than `other`: another class, the other side of the threshold (a half where the
    /// manifest has none), or a quantity that is off by more than a tenth.
    pub fn differs(&self, other: &Self, manifest: &Manifest) -> bool {
        let threshold = manifest.evaluation.as_ref().and_then(|evaluation| evaluation.threshold);
        let threshold = threshold.unwrap_or(0.5);
        match (self, other) {
            (Self::Number(a), Self::Number(b)) if manifest.task == Task::Regression => {
                (a - b).abs() > QUANTITY_OFF * a.abs().max(b.abs())
            }
            (Self::Number(a), Self::Number(b)) => (*a >= threshold) != (*b >= threshold),
            (Self::Classes(a), Self::Classes(b)) => largest(a) != largest(b),
            (Self::Number(_), Self::Classes(_)) | (Self::Classes(_), Self::Number(_)) => true,
        }
    }

    /// What it holds on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Number(_) => 0,
            Self::Classes(probabilities) => size_of_val(probabilities.as_slice()),
        }
    }

    /// Squared error; nothing for what is no quantity, such as the largest number in the place of a missing one. For
    /// classes the label is the class's position: the Brier score over all classes, and the sums compare the probability
    /// that the true class was given with 1.
    pub fn score(&self, label: f64) -> Option<Scored> {
        match self {
            Self::Number(prediction) => {
                let error = prediction - label;
                Scored { given: label, label, prediction: *prediction, loss: error * error }.usable()
            }
            Self::Classes(probabilities) => {
                #[expect(
                    clippy::float_cmp,
                    reason = "a class's position is a whole number, or it is no class"
                )]
                let class = (0_u16..).zip(probabilities).find(|&(class, _)| f64::from(class) == label);
                let (class, &prediction) = class?;
                let error = |(at, p): (u16, &f64)| if at == class { p - 1.0 } else { *p };
                let loss = (0_u16..).zip(probabilities).map(error).map(|error| error * error).sum();
                Scored { given: label, label: 1.0, prediction, loss }.usable()
            }
        }
    }
}

/// The first of the largest.
fn largest(probabilities: &[f64]) -> Option<usize> {
    (0..probabilities.len()).rev().max_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squared_errors() {
        let check = |prediction: Prediction, label, expect: Option<f64>| {
            assert_eq!(prediction.score(label).map(|scored| scored.loss), expect, "{prediction:?} {label}");
        };
        check(Prediction::Number(0.75), 1.0, Some(0.0625));
        check(Prediction::Number(12.0), 10.0, Some(4.0));
        check(Prediction::Number(12.0), 1e200, None);
        check(Prediction::Number(f64::MAX), f64::MAX, None);
        let classes = || Prediction::Classes(vec![0.5, 0.25, 0.25]);
        check(classes(), 0.0, Some(0.375));
        check(classes(), 1.0, Some(0.25 + 0.5625 + 0.0625));
        check(classes(), 3.0, None);
        check(classes(), 0.5, None);
        check(Prediction::Classes(vec![f64::NAN, 0.5]), 1.0, None);
        check(Prediction::Classes(vec![1e200, 0.5]), 1.0, None);
    }

    #[test]
    fn what_an_application_would_notice_differs() {
        use Prediction::{Classes, Number};
        let manifest = |task, threshold: Option<f64>| {
            let text = include_bytes!("../../../protocol/tests/wire/manifest.json");
            let mut manifest = Manifest::parse(text).unwrap();
            manifest.task = task;
            manifest.evaluation.as_mut().unwrap().threshold = threshold;
            manifest
        };
        let check = |task, threshold, a: Prediction, b: Prediction, expect| {
            assert_eq!(a.differs(&b, &manifest(task, threshold)), expect, "{a:?} {b:?}");
            assert_eq!(b.differs(&a, &manifest(task, threshold)), expect, "{b:?} {a:?}");
        };
        check(Task::Binary, None, Number(0.2), Number(0.45), false);
        check(Task::Binary, Some(0.3), Number(0.2), Number(0.45), true);
        check(Task::Binary, Some(0.3), Number(0.3), Number(0.45), false);
        check(Task::Regression, None, Number(100.0), Number(109.0), false);
        check(Task::Regression, None, Number(100.0), Number(112.0), true);
        check(Task::Regression, None, Number(0.0), Number(0.0), false);
        let classes = |a, b, c| Classes(vec![a, b, c]);
        check(Task::Classification, None, classes(0.5, 0.4, 0.1), classes(0.9, 0.0, 0.1), false);
        check(Task::Classification, None, classes(0.5, 0.4, 0.1), classes(0.4, 0.5, 0.1), true);
        check(Task::Classification, None, classes(0.5, 0.4, 0.1), Number(0.5), true);
    }
}
