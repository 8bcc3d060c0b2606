//! Figures as an `ExportMetricsServiceRequest`, in the JSON that OTLP makes of it: 64-bit numbers are strings there.

use muster_protocol::time::Timestamp;
use serde_json::{Value as Json, json};

use crate::figures::{Family, Kind, Point, Value};

/// Totals since the process began (`started`), never what came since the last push.
const CUMULATIVE: u8 = 2;

pub(super) fn request(families: &[Family], started: Timestamp, now: Timestamp) -> Json {
    let span = Span { started: nanos(started), now: nanos(now) };
    let metrics: Vec<Json> = families.iter().map(|family| metric(family, &span)).collect();
    json!({ "resourceMetrics": [{
        "resource": { "attributes": [
            attribute("service.name", "muster-fleet"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
        ] },
        "scopeMetrics": [{ "scope": { "name": "muster" }, "metrics": metrics }],
    }] })
}

struct Span {
    started: String,
    now: String,
}

fn metric(family: &Family, span: &Span) -> Json {
    let points: Vec<Json> = family.points.iter().map(|point| data_point(point, family.kind, span)).collect();
    let (name, description) = (family.name, family.help);
    match family.kind {
        Kind::Gauge => json!({ "name": name, "description": description, "gauge": { "dataPoints": points } }),
        Kind::Counter => json!({ "name": name, "description": description, "sum": {
            "aggregationTemporality": CUMULATIVE, "isMonotonic": true, "dataPoints": points,
        } }),
        Kind::Histogram => json!({ "name": name, "description": description, "unit": "s", "histogram": {
            "aggregationTemporality": CUMULATIVE, "dataPoints": points,
        } }),
    }
}

fn data_point(point: &Point, kind: Kind, span: &Span) -> Json {
    let labels: Vec<Json> = point.labels.iter().map(|(label, of)| attribute(label, of)).collect();
    let mut data = json!({ "attributes": labels, "timeUnixNano": span.now });
    if kind != Kind::Gauge {
        data["startTimeUnixNano"] = json!(span.started);
    }
    match &point.value {
        Value::Number(n) => data["asInt"] = json!(n.to_string()),
        Value::Counts { bounds, counts } => {
            let total = counts.iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
            data["count"] = json!(total.to_string());
            data["bucketCounts"] = counts.iter().map(u64::to_string).collect();
            data["explicitBounds"] = json!(bounds);
        }
    }
    data
}

fn attribute(key: &str, value: &str) -> Json {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn nanos(at: Timestamp) -> String {
    (i128::from(at.as_millis()) * 1_000_000).to_string()
}
