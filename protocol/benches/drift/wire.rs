//! What a box sends in an hour about 100 streams, encoded as it is sent.

use muster_protocol::drift::{Counter, Counts, Reference};
use muster_protocol::ids::Digest;
use muster_protocol::message::Pane;
use muster_protocol::message::report::{Health, ModelStats, Report};
use muster_protocol::time::Timestamp;

use crate::noise::Noise;

const STREAMS: usize = 100;
/// Every tenth stream is a category.
const CATEGORIES: [&str; 10] = [
    "chest",
    "abdominal",
    "respiratory",
    "injury",
    "neuro",
    "infection",
    "mental",
    "limb",
    "gastro",
    "other",
];

pub(crate) struct Bytes {
    pub(crate) hour: usize,
    pub(crate) ten_minutes: usize,
    pub(crate) busy_hour: usize,
    pub(crate) busy_ten_minutes: usize,
}

pub(crate) fn hour() -> Bytes {
    let references = references();
    let sent = |panes: usize, rows_a_second: usize| -> usize {
        let rows = 3600 * rows_a_second / panes;
        (0..panes).map(|pane| report(&references, pane, panes, rows).encode().unwrap().len()).sum()
    };
    Bytes {
        hour: sent(1, 1),
        ten_minutes: sent(6, 1),
        busy_hour: sent(1, 100),
        busy_ten_minutes: sent(6, 100),
    }
}

fn references() -> Vec<Reference> {
    let mut noise = Noise::new(3);
    (0..STREAMS)
        .map(|stream| {
            if stream % 10 == 9 {
                let names = (0..5000).map(|_| Some(category(&mut noise)));
                Reference::categorical(names.collect::<Vec<_>>()).unwrap()
            } else {
                let values: Vec<f32> = (0..5000).map(|_| value(stream, &mut noise)).collect();
                Reference::numeric(&values).unwrap()
            }
        })
        .collect()
}

fn report(references: &[Reference], pane: usize, panes: usize, rows: usize) -> Report {
    let mut noise = Noise::new(pane as u64 + 10);
    let streams: Vec<Counts> = references
        .iter()
        .enumerate()
        .map(|(stream, reference)| {
            let mut counter = Counter::new(reference);
            for _ in 0..rows {
                match &mut counter {
                    Counter::Numeric(numeric) => {
                        let missing = noise.uniform() < 0.02;
                        numeric.observe(if missing { f32::NAN } else { value(stream, &mut noise) });
                    }
                    Counter::Categorical(categorical) => categorical.observe(Some(category(&mut noise))),
                }
            }
            counter.take()
        })
        .collect();
    let length = 3600 / i64::try_from(panes).unwrap();
    let start = 1_795_651_200 + i64::try_from(pane).unwrap() * length;
    let (from, to) = (Timestamp::from_seconds(start), Timestamp::from_seconds(start + length));
    let bundle = Digest::of(b"bundle");
    let slot: muster_protocol::ids::SlotName = "er-deterioration".parse().unwrap();
    let requests = rows as u64;
    let models = vec![ModelStats {
        slot: slot.clone(),
        bundle,
        requests,
        rows: requests,
        failures: 0,
        refused: 0,
        latency: vec![u32::try_from(rows).unwrap(); 16],
    }];
    Report {
        boot: "b-01234567890123456789abcdef".parse().unwrap(),
        sequence: 4711 + pane as u64,
        held_from: 4711,
        from,
        to,
        health: Health { uptime_s: 86_400, memory_total_bytes: 8 << 30, ..Health::default() },
        models,
        panes: vec![Pane { slot, bundle, from, to, streams }],
        labels: Vec::new(),
        shadows: Vec::new(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "as models see their inputs")]
fn value(stream: usize, noise: &mut Noise) -> f32 {
    let normal = noise.normal();
    (match stream % 4 {
        0 => 37.0 + 0.5 * normal,
        1 => 120.0 + 15.0 * normal,
        2 => normal.exp(),
        _ => (4.0 + 2.0 * normal).round(),
    }) as f32
}

fn category(noise: &mut Noise) -> &'static str {
    let at = noise.uniform() * noise.uniform() * 10.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
    CATEGORIES[at as usize]
}
