//! `/metrics`: what Prometheus reads. Seconds and totals, by model and version; histograms, so that means and quantiles
//! can be computed.

use muster_protocol::message::report::LATENCY_BOUNDS_US;

use super::slots::Slots;
use crate::measure::{Durations, Tally};
use crate::shadow::Sums;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

type Histogram = (&'static str, &'static str, fn(&Tally) -> &Durations);

const HISTOGRAMS: [Histogram; 5] = [
    ("muster_infer_request_seconds", "Answered requests, from the last byte of the body on.", |tally| {
        &tally.answered
    }),
    ("muster_infer_queue_seconds", "Waiting for a session.", |tally| &tally.queue),
    ("muster_infer_input_seconds", "Reading the tensors and handing them to the runtime.", |tally| {
        &tally.input
    }),
    ("muster_infer_run_seconds", "In the runtime.", |tally| &tally.run),
    ("muster_infer_output_seconds", "Taking the outputs from the runtime.", |tally| &tally.output),
];

type ShadowFigure = (&'static str, &'static str, &'static str, fn(&Sums) -> String);

const SHADOWS: [ShadowFigure; 6] = [
    ("muster_shadow_seen_total", "counter", "Live answers that the shadow could have compared.", |sums| {
        sums.seen.to_string()
    }),
    ("muster_shadow_rows_total", "counter", "Rows that it compared.", |sums| sums.rows.to_string()),
    ("muster_shadow_differed_total", "counter", "Rows that it would have answered otherwise.", |sums| {
        sums.differed.to_string()
    }),
    ("muster_shadow_failures_total", "counter", "Requests that it failed to answer.", |sums| {
        sums.failed.to_string()
    }),
    ("muster_shadow_processor_seconds_total", "counter", "Processor time that it took.", |sums| {
        sums.spent.as_secs_f64().to_string()
    }),
    (
        "muster_shadow_share",
        "gauge",
        "Of its budget what it takes; below 1 where more would slow the live model.",
        |sums| sums.share.to_string(),
    ),
];

/// Everything at this moment.
pub(super) fn text(slots: &Slots) -> String {
    let loaded: Vec<_> = slots
        .loaded()
        .into_iter()
        .map(|(slot, serving)| {
            // Both are of letters, digits and a few marks that need no escaping.
            let labels = format!("model=\"{slot}\",version=\"{}\"", serving.manifest.version);
            let tally = serving.tally().clone();
            (labels, serving, tally)
        })
        .collect();
    let mut text = String::new();
    family(&mut text, "muster_infer_requests_total", "counter", "Requests by how they ended.");
    for (labels, _, tally) in &loaded {
        for (outcome, count) in [
            ("answered", tally.answered.count()),
            ("failed", tally.failed.count()),
            ("refused", tally.refused),
            ("busy", tally.busy),
        ] {
            sample(
                &mut text,
                "muster_infer_requests_total",
                &format!("{labels},outcome=\"{outcome}\""),
                &count,
            );
        }
    }
    family(&mut text, "muster_infer_rows_total", "counter", "Rows of answered requests.");
    for (labels, _, tally) in &loaded {
        sample(&mut text, "muster_infer_rows_total", labels, &tally.rows);
    }
    family(&mut text, "muster_infer_in_flight", "gauge", "Requests that are being answered.");
    for (labels, serving, _) in &loaded {
        sample(&mut text, "muster_infer_in_flight", labels, &serving.in_flight());
    }
    family(&mut text, "muster_infer_waiting", "gauge", "Requests that wait for a session.");
    for (labels, serving, _) in &loaded {
        sample(&mut text, "muster_infer_waiting", labels, &serving.model.waiting());
    }
    family(&mut text, "muster_infer_running", "gauge", "Requests that run in a session.");
    for (labels, serving, _) in &loaded {
        sample(&mut text, "muster_infer_running", labels, &serving.model.running());
    }
    family(&mut text, "muster_infer_sessions", "gauge", "Requests that can run at once.");
    for (labels, serving, _) in &loaded {
        sample(&mut text, "muster_infer_sessions", labels, &serving.model.sessions());
    }
    for (name, help, of) in HISTOGRAMS {
        family(&mut text, name, "histogram", help);
        for (labels, _, tally) in &loaded {
            histogram(&mut text, name, labels, of(tally));
        }
    }
    shadows(&mut text, slots);
    family(&mut text, "muster_ready", "gauge", "1 when every model that is ordered for this box serves.");
    sample(&mut text, "muster_ready", "", &u8::from(slots.ready()));
    text
}

fn shadows(text: &mut String, slots: &Slots) {
    let running = slots.shadows().into_iter().filter_map(|(slot, shadow)| {
        let (version, against) = (shadow.bundle.path.version(), shadow.against.path.version());
        Some((format!("model=\"{slot}\",version=\"{version}\",against=\"{against}\""), shadow.sums()?))
    });
    let running: Vec<(String, Sums)> = running.collect();
    for (name, kind, help, of) in SHADOWS {
        family(text, name, kind, help);
        for (labels, sums) in &running {
            sample(text, name, labels, &of(sums));
        }
    }
}

fn histogram(text: &mut String, name: &str, labels: &str, durations: &Durations) {
    let bucket = format!("{name}_bucket");
    let mut below = 0;
    for (bound, count) in LATENCY_BOUNDS_US.iter().zip(&durations.counts) {
        below += count;
        let seconds = f64::from(*bound) / 1e6;
        sample(text, &bucket, &format!("{labels},le=\"{seconds}\""), &below);
    }
    sample(text, &bucket, &format!("{labels},le=\"+Inf\""), &durations.count());
    sample(text, &format!("{name}_sum"), labels, &durations.sum.as_secs_f64());
    sample(text, &format!("{name}_count"), labels, &durations.count());
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    text.extend(["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"]);
}

fn sample(text: &mut String, name: &str, labels: &str, value: &impl ToString) {
    let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
    text.extend([name, open, labels, close, " ", &value.to_string(), "\n"]);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_histogram_adds_up() {
        let mut durations = Durations::default();
        for us in [10, 60, 70, 2_000_000] {
            durations.record(Duration::from_micros(us));
        }
        let mut text = String::new();
        histogram(&mut text, "t_seconds", "model=\"m\"", &durations);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "t_seconds_bucket{model=\"m\",le=\"0.00005\"} 1");
        assert_eq!(lines[1], "t_seconds_bucket{model=\"m\",le=\"0.0001\"} 3");
        assert_eq!(lines[14], "t_seconds_bucket{model=\"m\",le=\"0.8192\"} 3");
        assert_eq!(lines[15], "t_seconds_bucket{model=\"m\",le=\"+Inf\"} 4");
        assert_eq!(lines[16], "t_seconds_sum{model=\"m\"} 2.00014");
        assert_eq!(lines[17], "t_seconds_count{model=\"m\"} 4");
    }
}
