//! A camera: asks at fixed times, whether or not the last answer is there, so that what waits behind a stall counts as late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::house::{self, House, rest};

const SHAPE: [usize; 4] = [1, 3, 64, 64];
/// How long capacity is looked for at a time, and how often: the least counts, for the machine may be as slow again.
const CAPACITY_FOR: Duration = Duration::from_millis(500);
const CAPACITY_TIMES: u32 = 6;

pub(crate) struct Camera {
    client: reqwest::Client,
    url: String,
    json_bytes: usize,
    body: bytes::Bytes,
    pub(crate) failed: AtomicU64,
}

pub(crate) struct Asks {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<f64>>,
}

impl Camera {
    pub(crate) fn new(house: &House) -> Self {
        let (json_bytes, body) = rest(&SHAPE);
        let url = format!("http://{}/v2/models/{}/infer", house.server.addr, house::NAME);
        Self { client: reqwest::Client::new(), url, json_bytes, body, failed: AtomicU64::new(0) }
    }

    async fn ask(&self) {
        let request = self.client.post(&self.url).body(self.body.clone());
        let request = request.header("Inference-Header-Content-Length", self.json_bytes);
        let answered = async { request.send().await?.error_for_status()?.bytes().await };
        if answered.await.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
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
                    camera.ask().await;
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
                    camera.ask().await;
                    due.elapsed().as_secs_f64() * 1e3
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
    /// Milliseconds from when each request was due to its answer.
    pub(crate) async fn end(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// The nearest rank; sorts what it is given.
pub(crate) fn percentile(took: &mut [f64], percent: usize) -> f64 {
    took.sort_by(f64::total_cmp);
    took[took.len() * percent / 100]
}
