//! One inference request, whichever door it came by, and what is counted of it.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use muster_protocol::ids::BundleVersion;

use super::error::Refusal;
use super::serving::Serving;
use super::slots::{Found, Lookup, Slots, lock};
use crate::engine::{Answer, InferError};
use crate::labels::Prediction;
use crate::measure::Outcome;
use crate::oip::{self, NamedTensor, Request, Wanted};
use crate::stopwatch::Stopwatch;

/// Finds what serves under a model's name, and, if one was named, its version.
pub(super) fn find(slots: &Slots, name: &str, version: Option<&str>) -> Result<Found, Refusal> {
    match slots.look_up(name) {
        Lookup::Serving(found) => {
            let running = found.serving.manifest.version.as_str();
            match version.filter(|&wanted| wanted != running) {
                None => Ok(found),
                Some(wanted) => {
                    let wanted: String = wanted.chars().take(80).collect();
                    let sentence = format!("'{name}' runs in version {running}, not {wanted}");
                    Err(Refusal::new(StatusCode::NOT_FOUND, sentence))
                }
            }
        }
        Lookup::NotReady => {
            let sentence = format!("the model '{name}' is ordered for this box and not ready yet; try again");
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence))
        }
        Lookup::Stopped(reason) => {
            let sentence = format!("the model '{name}' was stopped on this box: {reason}");
            Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, sentence))
        }
        Lookup::Unknown => Err(Refusal::unknown_model(name)),
    }
}

/// A request that was answered: what its door has to write.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) id: Option<String>,
    pub(super) version: BundleVersion,
    pub(super) outputs: Vec<NamedTensor>,
    pub(super) wanted: Vec<Wanted>,
}

/// Answers one request, however it was written: `read` makes it one for the model that serves. `deadline` is when the
/// application stops waiting.
pub(super) async fn infer<R>(
    slots: &Slots,
    name: &str,
    version: Option<&str>,
    deadline: Option<Duration>,
    read: impl FnOnce(Arc<Serving>) -> R,
) -> Result<Answered, Refusal>
where
    R: Future<Output = Result<Request, Refusal>>,
{
    let watch = Stopwatch::start();
    let Found { serving, predictions, shadow } = find(slots, name, version)?;
    let _in_flight = serving.begin();
    let Request { id, inputs, outputs: wanted, timeout } =
        read(Arc::clone(&serving)).await.inspect_err(|_| count_refused(&serving))?;
    let read_in = watch.elapsed();
    let timeout = [timeout, deadline].into_iter().flatten().min();
    let inputs: Arc<[NamedTensor]> = inputs.into();
    let answer = serving.model.infer_read(Arc::clone(&inputs), timeout).await;
    let answer = answer.and_then(|answer| promised(&serving, answer));
    let Answer { outputs, mut spent, .. } = answer.map_err(|error| {
        match &error {
            InferError::NotFinite { .. } => count_refused(&serving),
            InferError::Busy => {
                serving.tally().busy += 1;
                serving.stats().record(Outcome::Failed);
            }
            InferError::TimedOut | InferError::Failed(_) | InferError::Stopped => {
                serving.tally().failed.record(watch.elapsed());
                serving.stats().record(Outcome::Failed);
            }
        }
        tracing::warn!(slot = name, bundle = %serving.bundle.sha256.short(), %error, "a request was not answered");
        Refusal::from(error)
    })?;
    spent.input += read_in;
    let now = slots.world_now();
    serving.panes().observe(now, &inputs, &outputs);
    slots.taps().offer(&crate::capture::Answered {
        slot: name,
        bundle: serving.bundle.sha256,
        manifest: &serving.manifest,
        id: id.as_deref(),
        at: now,
        inputs: &inputs,
        outputs: &outputs,
    });
    if let Some(id) = &id {
        let scores = Prediction::of(&serving.manifest, &outputs);
        lock(&predictions).remember(id, serving.bundle.sha256, now, &inputs, scores);
    }
    let rows = inputs.first().map_or(1, |input| input.tensor.rows()) as u64;
    let took = watch.elapsed();
    serving.stats().record(Outcome::Answered { rows, took });
    serving.tally().answer(rows, took, spent, now);
    if let Some(shadow) = shadow {
        shadow.offer(took, &inputs, || Prediction::of(&serving.manifest, &outputs));
    }
    Ok(Answered { id, version: serving.manifest.version.clone(), outputs, wanted })
}

fn count_refused(serving: &Serving) {
    serving.tally().refused += 1;
    serving.stats().record(Outcome::Refused);
}

/// The outputs that the manifest promises, in its order, if all of their numbers are finite.
fn promised(serving: &Serving, mut answer: Answer) -> Result<Answer, InferError> {
    let names = serving.manifest.signature.outputs.iter().map(|output| output.name.as_str());
    oip::select(&mut answer.outputs, names);
    let not_finite = answer.outputs.iter().find(|output| answer.not_finite.contains(&output.name));
    match not_finite {
        Some(output) => Err(InferError::not_finite_output(&output.name)),
        None => Ok(answer),
    }
}
