//! A model with one session and no thread: whoever holds it runs it, in its own time.

use std::time::Duration;

use muster_protocol::manifest::Signature;
use ort::session::Session;
use rustix::time::ClockId;

use super::convert;
use super::model::InferError;
use crate::oip::NamedTensor;
use crate::stopwatch::processor_time;

#[derive(Debug)]
pub struct Lone {
    session: Session,
    signature: Signature,
}

impl Lone {
    pub(super) fn new(session: Session, signature: Signature) -> Self {
        Self { session, signature }
    }

    /// The inputs and outputs that the file really has.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Runs once, on the calling thread, and says what that took of the processor. As with what answers: a number that is not
    /// finite is no answer.
    pub fn run(&mut self, inputs: &[NamedTensor]) -> (Result<Vec<NamedTensor>, InferError>, Duration) {
        let before = processor_time(ClockId::ThreadCPUTime);
        let answer = convert::run(&mut self.session, inputs, &self.signature);
        let spent = processor_time(ClockId::ThreadCPUTime).saturating_sub(before);
        let answer = answer.map_err(InferError::Failed).and_then(|answer| match answer.not_finite.first() {
            Some(name) => Err(InferError::not_finite_output(name)),
            None => Ok(answer.outputs),
        });
        (answer, spent)
    }
}
