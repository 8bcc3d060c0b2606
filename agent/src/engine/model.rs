//! A loaded model: a few sessions, each owned by an OS thread of its own, behind one bounded queue.
//!
//! ```text
//!   infer().await ──try_send──> [ queue ] ──> thread 1: Session ──oneshot──> the waiting request
//!                     full: busy          └──> thread 2: Session
//! ```
//!
//! Inference never runs on the async runtime or its blocking pool: a slow model may delay its own answers, nobody
//! else's. When the last handle goes, the queue closes, the threads end, and the sessions are freed there. Requests in
//! flight are answered first.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use muster_protocol::manifest::Signature;
use muster_protocol::message::ProviderUse;
use ort::session::Session;
use tokio::sync::oneshot;

use super::{EngineError, convert};
use crate::oip::NamedTensor;
use crate::stopwatch::millis;

/// Requests that wait for a session; more are turned away at once.
const QUEUE: usize = 64;
/// Longest that a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: SyncSender<Job>,
    signature: Signature,
    provider: ProviderUse,
    load_ms: u64,
}

#[derive(Debug)]
struct Job {
    inputs: Vec<NamedTensor>,
    answer: oneshot::Sender<Result<Vec<NamedTensor>, InferError>>,
}

#[derive(Debug, thiserror::Error)]
pub enum InferError {
    #[error("element {index} of input '{name}' is not a finite number")]
    NotFinite { name: String, index: usize },
    #[error("the model is busy: {QUEUE} requests wait already; send fewer at once or try again")]
    Busy,
    #[error("the model did not answer within {} s", PATIENCE.as_secs())]
    TimedOut,
    #[error("the model failed: {0}")]
    Failed(String),
    #[error("the model has stopped")]
    Stopped,
}

impl Model {
    pub(super) fn new(
        sessions: Vec<Session>,
        signature: Signature,
        provider: ProviderUse,
        load: Duration,
    ) -> Result<Self, EngineError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let jobs = Arc::new(Mutex::new(jobs));
        for session in sessions {
            let (jobs, signature) = (Arc::clone(&jobs), signature.clone());
            std::thread::Builder::new()
                .name("infer".to_owned())
                .spawn(move || work(session, &jobs, &signature))
                .map_err(EngineError::Thread)?;
        }
        Ok(Self(Arc::new(Inner { queue, signature, provider, load_ms: millis(load) })))
    }

    /// The inputs and outputs that the file really has.
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    pub fn provider(&self) -> &ProviderUse {
        &self.0.provider
    }

    pub fn load_ms(&self) -> u64 {
        self.0.load_ms
    }

    /// Answers with every output of the signature. Cancelling leaves no trace but the run that may have begun.
    pub async fn infer(&self, inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, InferError> {
        let answer = self.submit(inputs)?;
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answered) => answered.unwrap_or(Err(InferError::Stopped)),
            Err(_) => Err(InferError::TimedOut),
        }
    }

    /// [`Model::infer`] for programs without an async runtime; waits as long as it takes.
    pub fn infer_blocking(&self, inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, InferError> {
        self.submit(inputs)?.blocking_recv().unwrap_or(Err(InferError::Stopped))
    }

    fn submit(
        &self,
        inputs: Vec<NamedTensor>,
    ) -> Result<oneshot::Receiver<Result<Vec<NamedTensor>, InferError>>, InferError> {
        // OpenVINO answers NaN with ordinary numbers, so it must not get that far.
        for NamedTensor { name, tensor } in &inputs {
            if let Some(index) = tensor.values.first_not_finite() {
                return Err(InferError::NotFinite { name: name.clone(), index });
            }
        }
        let (answer, answered) = oneshot::channel();
        match self.0.queue.try_send(Job { inputs, answer }) {
            Ok(()) => Ok(answered),
            Err(TrySendError::Full(_)) => Err(InferError::Busy),
            Err(TrySendError::Disconnected(_)) => Err(InferError::Stopped),
        }
    }
}

fn work(mut session: Session, jobs: &Mutex<Receiver<Job>>, signature: &Signature) {
    loop {
        // Held while waiting: whoever holds it takes the next job, the others wait for the lock instead of the queue.
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { inputs, answer }) = next else { return };
        if answer.is_closed() {
            continue;
        }
        let outputs = convert::run(&mut session, inputs, signature).map_err(InferError::Failed);
        // A receiver that is gone has given up; there is nobody to tell.
        drop(answer.send(outputs));
    }
}
