//! Labels as they arrive: matched with their predictions, and the previous bundle asked about the same inputs.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_protocol::ids::SlotName;
use muster_protocol::manifest::{Signature, Task};
use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::infer::find;
use super::serving::Serving;
use super::slots::{self, Slots, lock};
use crate::labels::{Found, Prediction, Settled};
use crate::oip::{NamedTensor, Tensor};

/// Labels in one request.
const LABELS_MAX: usize = 10_000;
/// Rows that the previous bundle is asked about at once: applications must not wait long behind it.
const BATCH: usize = 256;

#[derive(Debug, Deserialize)]
struct Body {
    slot: SlotName,
    labels: Vec<Label>,
}

#[derive(Debug, Deserialize)]
struct Label {
    request: String,
    #[serde(default)]
    row: u32,
    value: f64,
}

/// What became of the labels of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Tally {
    matched: u64,
    unknown: u64,
    late: u64,
    repeated: u64,
}

pub(super) async fn accept(slots: &Slots, body: &[u8]) -> Result<Tally, Refusal> {
    let Body { slot, labels } = serde_json::from_slice(body)
        .map_err(|error| Refusal::bad(format!("the body is not a list of labels of a slot: {error}")))?;
    if labels.len() > LABELS_MAX {
        return Err(Refusal::bad(format!(
            "{} labels are more than the {LABELS_MAX} taken at once; send them in parts",
            labels.len()
        )));
    }
    let slots::Found { serving, predictions, .. } = find(slots, slot.as_str(), None)?;
    check_values(serving.manifest.task, &labels)?;
    let inputs = paired_inputs(slots, &slot, &labels, &lock(&predictions));
    let previous = match inputs {
        Some((previous, inputs)) => {
            ask(&previous, inputs).await.map(|answers| (previous.bundle.sha256, answers))
        }
        None => None,
    };
    let mut tally = Tally::default();
    let mut predictions = lock(&predictions);
    for (at, Label { request, row, value }) in labels.iter().enumerate() {
        let paired = previous.as_ref().and_then(|(bundle, answers)| Some((*bundle, answers.get(&at)?)));
        match predictions.settle(request, *row, *value, paired) {
            Settled::Matched => tally.matched += 1,
            Settled::Unknown | Settled::NotALabel => tally.unknown += 1,
            Settled::Late => tally.late += 1,
            Settled::Repeated => tally.repeated += 1,
        }
    }
    Ok(tally)
}

/// Refuses the whole request before any of it is counted.
fn check_values(task: Task, labels: &[Label]) -> Result<(), Refusal> {
    for (at, Label { value, .. }) in labels.iter().enumerate() {
        let (fits, rule) = match task {
            Task::Binary => ((0.0..=1.0).contains(value), "a label of this model is between 0 and 1"),
            Task::Classification => {
                (*value >= 0.0 && value.fract() == 0.0, "a label of this model is the position of a class")
            }
            Task::Regression => (value.is_finite(), "a label is a finite number"),
        };
        if !fits {
            return Err(Refusal::bad(format!("labels[{at}].value is {value}; {rule}")));
        }
    }
    Ok(())
}

type Rows = Vec<(usize, Arc<[NamedTensor]>)>;

/// The inputs on which the current bundle answered and the previous one can be asked, with the label's position.
fn paired_inputs(
    slots: &Slots,
    slot: &SlotName,
    labels: &[Label],
    predictions: &crate::labels::Predictions,
) -> Option<(Arc<Serving>, Rows)> {
    let (current, previous) = slots.pair(slot)?;
    if !same_inputs(&current.manifest.signature, &previous.manifest.signature) {
        return None;
    }
    let rows = labels.iter().enumerate().filter_map(|(at, label)| {
        match predictions.find(&label.request, label.row) {
            Found::Waiting(waiting) if waiting.bundle == current.bundle.sha256 => Some((at, waiting.input?)),
            Found::Waiting(_) | Found::Unknown | Found::Late | Found::Repeated => None,
        }
    });
    let rows: Rows = rows.collect();
    (!rows.is_empty()).then_some((previous, rows))
}

/// A previous bundle with other inputs (a feature more, say) cannot answer the same question.
fn same_inputs(one: &Signature, other: &Signature) -> bool {
    one.inputs == other.inputs
}

/// Asks in batches where the model takes batches. An answer that fails leaves its labels unpaired.
async fn ask(previous: &Serving, rows: Rows) -> Option<BTreeMap<usize, Prediction>> {
    let first_dimension = |size: i64| {
        previous
            .manifest
            .signature
            .inputs
            .iter()
            .all(|input| input.shape.first().is_some_and(|&first| first == size))
    };
    let batch = if first_dimension(-1) {
        BATCH
    } else if first_dimension(1) {
        1
    } else {
        return None;
    };
    let mut answers = BTreeMap::new();
    for rows in rows.chunks(batch) {
        let Some(inputs) = stacked(rows) else { continue };
        match previous.model.infer(inputs.into(), None).await {
            Ok(answer) => {
                let predictions = Prediction::of(&previous.manifest, &answer.outputs);
                if predictions.len() == rows.len() {
                    answers.extend(rows.iter().map(|(at, _)| *at).zip(predictions));
                }
            }
            Err(error) => {
                tracing::warn!(bundle = %previous.bundle.sha256.short(), %error, "labels could not be paired");
            }
        }
    }
    Some(answers)
}

fn stacked(rows: &[(usize, Arc<[NamedTensor]>)]) -> Option<Vec<NamedTensor>> {
    let (_, first) = rows.first()?;
    let stack = |(at, input): (usize, &NamedTensor)| {
        let tensors: Vec<&Tensor> =
            rows.iter().map(|(_, inputs)| inputs.get(at).map(|i| &i.tensor)).collect::<Option<_>>()?;
        Some(NamedTensor { name: input.name.clone(), tensor: Tensor::stacked(tensors)? })
    };
    first.iter().enumerate().map(stack).collect()
}
