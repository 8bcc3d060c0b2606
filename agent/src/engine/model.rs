//! A loaded model: a few sessions, each owned by an OS thread of its own, behind one bounded queue.
//!
//! ```text
//!   infer().await ──push──> [ queue ] ──> thread 1: Session ──oneshot──> the waiting request
//!                 full: busy          └──> thread 2: Session
//! ```
//!
//! Inference never runs on the async runtime or its blocking pool: a slow model may delay its own answers, nobody
//! else's. When the last handle goes, the queue closes, the threads end, and the sessions are freed aside. Requests in
//! flight are answered first; a request that was given up while it waited is never run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use muster_protocol::manifest::Signature;
use muster_protocol::message::ProviderUse;
use ort::session::Session;
use tokio::sync::oneshot;

use super::aside::Lane;
use super::library::Library;
use super::queue::{Full, Queue, Waiting};
use super::{EngineError, convert};
use crate::measure::Spent;
use crate::oip::NamedTensor;
use crate::stopwatch::{Stopwatch, millis};

/// Longest that a request waits for its answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A handle; the model lives as long as one is held.
#[derive(Clone, Debug)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue<Job>>,
    running: Arc<AtomicUsize>,
    sessions: usize,
    signature: Signature,
    provider: ProviderUse,
    load_ms: u64,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[derive(Debug)]
struct Job {
    inputs: Arc<[NamedTensor]>,
    waits: Stopwatch,
    answer: oneshot::Sender<Result<Answer, InferError>>,
}

impl Waiting for Job {
    fn is_given_up(&self) -> bool {
        self.answer.is_closed()
    }

    fn size(&self) -> usize {
        self.inputs.iter().map(|input| input.tensor.values.size_bytes()).sum()
    }
}

/// Every output of the signature, in its order, and what they took.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub outputs: Vec<NamedTensor>,
    /// Names of those that hold NaN or infinity.
    pub not_finite: Vec<String>,
    pub spent: Spent,
}

#[derive(Debug, thiserror::Error)]
pub enum InferError {
    #[error("element {index} of input '{name}' is not a finite number")]
    NotFinite { name: String, index: usize },
    #[error("the model is busy, as many requests as may wait do so already; send fewer at once or try again")]
    Busy,
    #[error("the model did not answer in time")]
    TimedOut,
    #[error("the model failed: {0}")]
    Failed(String),
    #[error("the model has stopped")]
    Stopped,
}

impl InferError {
    /// JSON has no NaN, and no application should get one.
    pub(crate) fn not_finite_output(name: &str) -> Self {
        Self::Failed(format!("output '{name}' holds a number that is not finite"))
    }
}

impl Model {
    pub(super) fn new(
        library: &Arc<Library>,
        sessions: Vec<Session>,
        waiting_max: usize,
        signature: Signature,
        provider: ProviderUse,
        load: Duration,
    ) -> Result<Self, EngineError> {
        let queue = Arc::new(Queue::new(waiting_max));
        let running = Arc::new(AtomicUsize::new(0));
        let inner = Inner {
            queue: Arc::clone(&queue),
            running: Arc::clone(&running),
            sessions: sessions.len(),
            signature,
            provider,
            load_ms: millis(load),
        };
        for mut session in sessions {
            let (queue, running, signature) =
                (Arc::clone(&queue), Arc::clone(&running), inner.signature.clone());
            let library = Arc::clone(library);
            let work = move || {
                for Job { inputs, waits, answer } in queue.worker() {
                    let queue = waits.elapsed();
                    running.fetch_add(1, Ordering::Relaxed);
                    let ran = convert::run(&mut session, &inputs, &signature);
                    running.fetch_sub(1, Ordering::Relaxed);
                    let ran = ran.map(|answer| Answer { spent: Spent { queue, ..answer.spent }, ..answer });
                    // A receiver that is gone has given up; there is nobody to tell.
                    drop(answer.send(ran.map_err(InferError::Failed)));
                }
                // To free it takes milliseconds, which belong to whatever answers now. Where that cannot be, it is freed here.
                drop(library.aside().begin(Lane::Answers, move || drop(session)));
            };
            let thread = std::thread::Builder::new().name("infer".to_owned());
            thread.spawn(work).map_err(EngineError::Thread)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The inputs and outputs that the file really has.
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    pub fn provider(&self) -> &ProviderUse {
        &self.0.provider
    }

    /// How many requests run at once.
    pub fn sessions(&self) -> usize {
        self.0.sessions
    }

    /// How many requests run at this moment.
    pub fn running(&self) -> usize {
        self.0.running.load(Ordering::Relaxed)
    }

    /// How many requests wait for a session at this moment.
    pub fn waiting(&self) -> usize {
        self.0.queue.len()
    }

    pub fn load_ms(&self) -> u64 {
        self.0.load_ms
    }

    /// Runs once, at most as long as the application waits and as is reasonable. Cancelling leaves no trace but the run
    /// that may have begun.
    pub async fn infer(
        &self,
        inputs: Arc<[NamedTensor]>,
        timeout: Option<Duration>,
    ) -> Result<Answer, InferError> {
        finite(&inputs)?;
        self.infer_read(inputs, timeout).await
    }

    /// [`Model::infer`] of what was read as a [`Request`](crate::oip::Request): its numbers were looked at there.
    pub(crate) async fn infer_read(
        &self,
        inputs: Arc<[NamedTensor]>,
        timeout: Option<Duration>,
    ) -> Result<Answer, InferError> {
        let answer = self.submit(inputs)?;
        match tokio::time::timeout(timeout.unwrap_or(PATIENCE).min(PATIENCE), answer).await {
            Ok(answered) => answered.unwrap_or(Err(InferError::Stopped)),
            Err(_) => Err(InferError::TimedOut),
        }
    }

    /// [`Model::infer`] for programs without an async runtime; waits as long as it takes.
    pub fn infer_blocking(&self, inputs: Vec<NamedTensor>) -> Result<Vec<NamedTensor>, InferError> {
        finite(&inputs)?;
        let answered = self.submit(inputs.into())?.blocking_recv().unwrap_or(Err(InferError::Stopped))?;
        Ok(answered.outputs)
    }

    fn submit(
        &self,
        inputs: Arc<[NamedTensor]>,
    ) -> Result<oneshot::Receiver<Result<Answer, InferError>>, InferError> {
        let (answer, answered) = oneshot::channel();
        match self.0.queue.push(Job { inputs, waits: Stopwatch::start(), answer }) {
            Ok(()) => Ok(answered),
            Err(Full) => Err(InferError::Busy),
        }
    }
}

/// OpenVINO answers NaN with ordinary numbers, so it must not get that far.
fn finite(inputs: &[NamedTensor]) -> Result<(), InferError> {
    for NamedTensor { name, tensor } in inputs {
        if let Some(index) = tensor.values.first_not_finite() {
            return Err(InferError::NotFinite { name: name.clone(), index });
        }
    }
    Ok(())
}
