//! A camera: asks at fixed times, whether or not the last answer is there, so that what waits behind a stall counts as late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::house::{self, House, rest};
use crate::pulse::Pulse;

const SHAPE: [usize; 4] = [1, 3, 64, 64];
/// How long capacity is looked for at a time, and how often: the least counts, for the machine may be as slow again.
const CAPACITY_FOR: Duration = Duration::from_millis(500);
const CAPACITY_TIMES: u32 = 6;

pub(crate) struct Camera {
    client: reqwest::Client,
    url: String,
    json_bytes: usize,
    body: bytes::Bytes,
}

pub(crate) struct Asks {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<Asked>>,
}

struct Asked {
    due: Instant,
    milliseconds: f64,
    failure: Option<reqwest::Error>,
}

/// What a time of asking came to.
pub(crate) struct Turn {
    /// The percentile of the milliseconds from when a request was due to its answer: of those that were due when the machine
    /// ran as it should.
    pub(crate) even: f64,
    /// The same of all.
    pub(crate) all: f64,
    /// The part of all that were due in other moments.
    pub(crate) slow: f64,
    pub(crate) failures: Vec<reqwest::Error>,
}

impl Camera {
    pub(crate) fn new(house: &House) -> Self {
        let (json_bytes, body) = rest(&SHAPE);
        let url = format!("http://{}/v2/models/{}/infer", house.server.addr, house::NAME);
        Self { client: reqwest::Client::new(), url, json_bytes, body }
    }

    async fn ask(&self) -> reqwest::Result<()> {
        let request = self.client.post(&self.url).body(self.body.clone());
        let request = request.header("Inference-Header-Content-Length", self.json_bytes);
        request.send().await?.error_for_status()?.bytes().await.map(drop)
    }

    /// Answers a second when two ask as fast as they are answered.
    pub(crate) async fn capacity(self: &Arc<Self>) -> f64 {
        let mut least = f64::INFINITY;
        for _ in 0..CAPACITY_TIMES {
            least = least.min(self.answers_a_second().await);
        }
        least
    }

    async fn answers_a_second(self: &Arc<Self>) -> f64 {
        let began = Instant::now();
        let both = [(); 2].map(|()| {
            let camera = Arc::clone(self);
            tokio::spawn(async move {
                let mut answered = 0_u32;
                while began.elapsed() < CAPACITY_FOR {
                    camera.ask().await.unwrap();
                    answered += 1;
                }
                answered
            })
        });
        let mut answered = 0;
        for one in both {
            answered += one.await.unwrap();
        }
        f64::from(answered) / began.elapsed().as_secs_f64()
    }

    pub(crate) fn asks(self: Arc<Self>, pace: Duration) -> Asks {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let began = Instant::now();
            let mut asked = Vec::new();
            for turn in 0_u32.. {
                let due = began + pace * turn;
                tokio::time::sleep_until(due).await;
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let camera = Arc::clone(&self);
                asked.push(tokio::spawn(async move {
                    let failure = camera.ask().await.err();
                    Asked { due, milliseconds: due.elapsed().as_secs_f64() * 1e3, failure }
                }));
            }
            let mut took = Vec::with_capacity(asked.len());
            for one in asked {
                took.push(one.await.unwrap());
            }
            took
        });
        Asks { stop, task }
    }
}

impl Asks {
    pub(crate) async fn end(self, pulse: &mut Pulse, percent: usize) -> Turn {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.task.await.unwrap();
        let slow = pulse.slow();
        let even = asked
            .iter()
            .filter(|asked| !slow.has(asked.due))
            .map(|asked| asked.milliseconds)
            .collect::<Vec<_>>();
        let share = 1.0 - even.len() as f64 / asked.len() as f64;
        let all = percentile(asked.iter().map(|asked| asked.milliseconds).collect(), percent);
        let failures = asked.into_iter().filter_map(|asked| asked.failure).collect();
        Turn { even: percentile(even, percent), all, slow: share, failures }
    }
}

/// By nearest rank; there is none of nothing.
fn percentile(mut took: Vec<f64>, percent: usize) -> f64 {
    took.sort_by(f64::total_cmp);
    took.get(took.len() * percent / 100).copied().unwrap_or(f64::NAN)
}
