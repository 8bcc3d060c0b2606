//! Figures of the whole fleet as Prometheus reads them.

use std::fmt::Write as _;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::problem::Answer;
use crate::figures::{self, Family, Kind, Point, Value};

/// Prometheus text, version 0.0.4.
pub(super) async fn metrics(State(app): State<App>) -> Answer<Response> {
    let mut response = text(&figures::collect(&app.fleet).await?).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn text(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let kind = match family.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
        };
        line(&mut text, format_args!("# HELP {} {}", family.name, family.help));
        line(&mut text, format_args!("# TYPE {} {kind}", family.name));
        for point in &family.points {
            write_point(&mut text, family.name, point);
        }
    }
    text
}

fn write_point(text: &mut String, name: &str, point: &Point) {
    match &point.value {
        Value::Number(n) => line(text, format_args!("{name}{} {n}", labels(point, None))),
        Value::Counts { bounds, counts } => {
            let mut below = 0_u64;
            for (place, count) in counts.iter().enumerate() {
                below = below.saturating_add(*count);
                let bound = bounds.get(place).map_or_else(|| "+Inf".to_owned(), f64::to_string);
                line(text, format_args!("{name}_bucket{} {below}", labels(point, Some(&bound))));
            }
            line(text, format_args!("{name}_count{} {below}", labels(point, None)));
        }
    }
}

fn labels(point: &Point, bound: Option<&str>) -> String {
    let own = point.labels.iter().map(|(label, of)| format!("{label}=\"{}\"", escaped(of)));
    let all: Vec<String> = own.chain(bound.map(|bound| format!("le=\"{bound}\""))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(text, "{line}").ok();
}
