//! `muster lineage`, `muster device why` and `muster model lineage`: why something is where it is, as a story and a tree.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::output::{Format, text};
use super::{CliError, Context, completing};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Writes what was made out of what as `OpenLineage` events, one a line, the oldest first.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        /// A new file; stdout if not given.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

const EXPORT_EXAMPLES: &str = "\
A server that is to be told as things happen is named in the fleet server's [lineage] url.

Examples:
  muster lineage export > lineage.ndjson
  muster lineage export --out lineage.ndjson";

const PAGE: usize = 500;
/// Deepest that a tree is drawn.
const DEPTH_MAX: usize = 12;

/// A box and a slot of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  muster device why er-2-ward-1
  muster device why d-… --slot er-beds
  muster -o json device why er-2-ward-1 | jq '.nodes'")]
pub(super) struct Why {
    /// The box's name or id.
    #[arg(add = completing::of(&completing::DEVICE_NAMES))]
    device: String,
    /// Needed where more than one slot answers.
    #[arg(long)]
    slot: Option<String>,
}

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let Verb::Export { out } = verb;
    let client = context.client()?;
    let mut file = match &out {
        Some(path) => Some(std::fs::File::create_new(path).map_err(CliError::other)?),
        None => None,
    };
    let mut cursor: Option<String> = None;
    let mut written = 0_u64;
    loop {
        let mut query = vec![("limit", PAGE.to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page = client.get("/api/v1/lineage/events", &query).await?;
        for event in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            written += 1;
            match &mut file {
                Some(file) => writeln!(file, "{event}")?,
                None => context.output.line(&event.to_string())?,
            }
        }
        cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    if let Some(file) = &file {
        file.sync_all()?;
    }
    context.output.say(&format!("{written} events"))
}

/// Why a box answers with what it answers with.
pub(super) async fn why(context: &mut Context, why: Why) -> Result<(), CliError> {
    let client = context.client()?;
    let id = if why.device.starts_with("d-") {
        why.device.clone()
    } else {
        let found = client.list("/api/v1/devices", &[("q", why.device.clone())]).await?;
        let items = found.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
        let named: Vec<String> = items
            .iter()
            .filter(|device| text(device, "/name") == why.device)
            .map(|device| text(device, "/id"))
            .collect();
        match named.as_slice() {
            [id] => id.clone(),
            [] => {
                let what = format!("no box is called '{}'", why.device);
                return Err(CliError::failed(what, "look at `muster device list`"));
            }
            _ => {
                let what = format!("{} boxes are called '{}': {}", named.len(), why.device, named.join(", "));
                return Err(CliError::failed(what, "name one by its id"));
            }
        }
    };
    let query: Vec<_> = why.slot.into_iter().map(|slot| ("slot", slot)).collect();
    let graph = client.get(&format!("/api/v1/devices/{id}/lineage"), &query).await?;
    show(context, &graph)
}

/// The story in sentences, then the tree of what they are about.
pub(super) fn show(context: &mut Context, graph: &Value) -> Result<(), CliError> {
    match context.output.format() {
        Format::Json => return context.output.json(graph),
        Format::Name => return nodes(graph).try_for_each(|node| context.output.line(&text(node, "/id"))),
        Format::Table => {}
    }
    for edge in edges(graph) {
        let at = text(edge, "/at");
        let when = if at.is_empty() { String::new() } else { format!("{at}  ") };
        context.output.line(&format!("{when}{}", text(edge, "/sentence")))?;
    }
    for gap in graph.get("gaps").and_then(Value::as_array).into_iter().flatten() {
        context.output.line(&text(gap, ""))?;
    }
    context.output.line("")?;
    if let Some(root) = nodes(graph).next() {
        let mut tree = Tree { graph, drawn: BTreeSet::new(), lines: Vec::new() };
        tree.draw(&text(root, "/id"), &label(root), "", 0);
        for line in tree.lines {
            context.output.line(&line)?;
        }
    }
    match graph.get("truncated").and_then(Value::as_bool) {
        Some(true) => context.output.say("there is more than is shown here"),
        Some(false) | None => Ok(()),
    }
}

/// Lines of a tree, each node once.
struct Tree<'a> {
    graph: &'a Value,
    drawn: BTreeSet<String>,
    lines: Vec<String>,
}

impl Tree<'_> {
    fn draw(&mut self, id: &str, label: &str, indent: &str, depth: usize) {
        let first = self.drawn.insert(id.to_owned());
        self.lines.push(if first { label.to_owned() } else { format!("{label} (above)") });
        if !first || depth >= DEPTH_MAX {
            return;
        }
        let from: Vec<&Value> = edges(self.graph).filter(|edge| text(edge, "/from") == id).collect();
        for (i, edge) in from.iter().enumerate() {
            let to = text(edge, "/to");
            let is_last = i + 1 == from.len();
            let relation = text(edge, "/relation").replace('_', " ");
            let name = nodes(self.graph).find(|node| text(node, "/id") == to).map(self::label);
            let (branch, below) = if is_last { ("└─", "  ") } else { ("├─", "│ ") };
            let line = format!("{indent}{branch} {relation} ▶ {}", name.unwrap_or_default());
            self.draw(&to, &line, &format!("{indent}{below} "), depth + 1);
        }
    }
}

fn label(node: &Value) -> String {
    format!("{} {}", text(node, "/kind"), text(node, "/name"))
}

fn nodes(graph: &Value) -> impl Iterator<Item = &Value> {
    graph.get("nodes").and_then(Value::as_array).into_iter().flatten()
}

fn edges(graph: &Value) -> impl Iterator<Item = &Value> {
    graph.get("edges").and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn trees_show_each_thing_once() {
        let node = |id: &str| json!({"id": id, "kind": "k", "name": id});
        let edge = |from: &str, to: &str| json!({"from": from, "to": to, "relation": "made_by"});
        let graph = json!({
            "nodes": [node("a"), node("b"), node("c")],
            "edges": [edge("a", "b"), edge("a", "c"), edge("b", "c"), edge("c", "a")],
        });
        let mut tree = Tree { graph: &graph, drawn: BTreeSet::new(), lines: Vec::new() };
        tree.draw("a", "k a", "", 0);
        let expect = [
            "k a",
            "├─ made by ▶ k b",
            "│  └─ made by ▶ k c",
            "│     └─ made by ▶ k a (above)",
            "└─ made by ▶ k c (above)",
        ];
        assert_eq!(tree.lines, expect);
    }
}
