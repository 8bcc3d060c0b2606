//! A dashboard for Grafana, held against what is really exported.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that goes wrong should stop, and say where")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// What Prometheus and Grafana add by themselves.
const GIVEN: [&str; 2] = ["instance", "le"];

/// Every metric that `board` asks for is in `metrics`, is asked as what it is, and has the labels by which it is asked.
pub(crate) fn check(board: &str, metrics: &str) {
    let board: Value = serde_json::from_str(board).unwrap();
    let kinds: BTreeMap<&str, &str> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let variables = board["templating"]["list"].as_array().unwrap().iter();
    let queries = variables.filter(|variable| variable["type"] == "query").map(|variable| &variable["query"]);
    let queries = targets.map(|target| &target["expr"]).chain(queries).map(|query| query.as_str().unwrap());
    let mut asked = BTreeSet::new();
    for query in queries {
        for (at, _) in query.match_indices("muster_") {
            let rest = &query[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, rest) = rest.split_at(end);
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|part| name.strip_suffix(part).filter(|family| kinds.contains_key(family)))
                .unwrap_or(name);
            let kind =
                kinds.get(family).unwrap_or_else(|| panic!("'{name}' is not exported; asked in {query}"));
            let is_counted = query[..at].ends_with("rate(") || query[..at].ends_with("increase(");
            assert!(
                query.starts_with("label_values(") || is_counted == (*kind != "gauge"),
                "{name} is a {kind}: {query}"
            );
            let matchers = rest.strip_prefix('{').map_or("", |rest| rest.split('}').next().unwrap());
            let by = query[..at].rsplit_once("by (").map_or("", |(_, by)| by.split(')').next().unwrap());
            let of_matchers = matchers.split(',').filter_map(|one| one.split(['=', '!']).next());
            let labels = of_matchers.chain(by.split(", ")).map(str::trim).filter(|label| !label.is_empty());
            // A family of which there is nothing yet shows no labels.
            let shown: Vec<&str> =
                metrics.lines().filter(|line| line.starts_with(&format!("{name}{{"))).collect();
            for label in labels.filter(|label| !GIVEN.contains(label) && !shown.is_empty()) {
                assert!(shown.iter().all(|line| line.contains(&format!("{label}=\""))), "{label}: {query}");
            }
            asked.insert(family.to_owned());
        }
    }
    let missing: Vec<_> = kinds.keys().filter(|family| !asked.contains(**family)).collect();
    assert!(missing.is_empty(), "the board shows nothing of {missing:?}");
}
