//! `muster cohort` and `muster device tag`: what boxes are sorted by, and the saved questions about them.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::act::confirm;
use super::output::{Column, text};
use super::{CliError, Context, completing};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lists saved cohorts.
    #[command(visible_alias = "ls", after_help = "Example:\n  muster cohort list")]
    List,
    /// Shows a cohort and who is in it now.
    #[command(after_help = "Example:\n  muster cohort show icu")]
    Show {
        #[arg(add = completing::of(&completing::COHORTS))]
        name: String,
    },
    /// Saves a cohort: a question about boxes, asked again whenever one changes.
    #[command(after_help = "\
Examples:
  muster cohort set icu 'ward=icu, hardware=x86_64-openvino'
  muster cohort set early 'site in (er-1, er-2), agent>=0.3.0, !legacy'")]
    Set {
        #[arg(add = completing::of(&completing::COHORTS))]
        name: String,
        filter: String,
    },
    /// Removes a cohort; rollouts that were made of it keep its filter.
    #[command(
        visible_alias = "rm",
        after_help = "Example:\n  muster cohort remove icu --reason 'the ward moved'"
    )]
    Remove {
        #[arg(add = completing::of(&completing::COHORTS))]
        name: String,
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Tags one box, or with `--where` all boxes that match: what would change is shown first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  muster device tag d-… ward=icu redundancy=north
  muster device tag d-… legacy-
  muster device tag --where 'site=er-2, !ward' ward=er --yes")]
pub(super) struct Tag {
    /// The box's id, and tags as NAME=VALUE to set, or NAME- to remove.
    #[arg(required = true, value_name = "ID|TAG")]
    words: Vec<String>,
    /// Which boxes, instead of one id.
    #[arg(long = "where", value_name = "FILTER")]
    filter: Option<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
}

const COLUMNS: &[Column] = &[
    Column { title: "NAME", cell: |c| text(c, "/name") },
    Column { title: "FILTER", cell: |c| text(c, "/filter") },
];

const FIELDS: &[Column] = &[
    Column { title: "Name", cell: |c| text(c, "/name") },
    Column { title: "Filter", cell: |c| text(c, "/filter") },
    Column { title: "Devices", cell: |c| text(c, "/devices") },
    Column { title: "Names", cell: |c| text(c, "/names") },
];

const TAGS: &[Column] = &[
    Column { title: "Device", cell: |t| text(t, "/device") },
    Column {
        title: "Tags",
        cell: |t| {
            let tags = t.get("tags").and_then(Value::as_object);
            let words = tags.into_iter().flatten().map(|(name, value)| format!("{name}={}", text(value, "")));
            words.collect::<Vec<_>>().join(", ")
        },
    },
];

const MANY: &[Column] = &[
    Column { title: "Devices", cell: |m| text(m, "/devices") },
    Column { title: "Changed", cell: |m| text(m, "/changed") },
    Column { title: "Names", cell: |m| text(m, "/names") },
];

pub(super) async fn run(context: &mut Context, verb: Verb) -> Result<(), CliError> {
    let client = context.client()?;
    match verb {
        Verb::List => {
            let answer = client.list("/api/v1/cohorts", &[]).await?;
            context.output.list(&answer, "/name", COLUMNS)
        }
        Verb::Show { name } => {
            let answer = client.get(&format!("/api/v1/cohorts/{name}"), &[]).await?;
            context.output.show(&answer, "/name", FIELDS)
        }
        Verb::Set { name, filter } => {
            let answer = client.put(&format!("/api/v1/cohorts/{name}"), &json!({ "filter": filter })).await?;
            context.output.show(&answer, "/name", FIELDS)
        }
        Verb::Remove { name, reason } => {
            let body = json!({ "reason": reason });
            client.post(&format!("/api/v1/cohorts/{name}/remove"), &[], &body).await?;
            context.output.say(&format!("removed {name}"))
        }
    }
}

pub(super) async fn tag(context: &mut Context, tag: Tag) -> Result<(), CliError> {
    let client = context.client()?;
    let Tag { mut words, filter, yes } = tag;
    if let Some(filter) = filter {
        let (set, remove) = read(&words)?;
        let body = json!({ "filter": filter, "set": set, "remove": remove });
        let dry = client.post("/api/v1/tags", &[("dry_run", "true".to_owned())], &body).await?;
        context.output.fields(&dry, MANY)?;
        let what = format!("tags {} of {} boxes", text(&dry, "/changed"), text(&dry, "/devices"));
        confirm(context, yes, &what)?;
        let done = client.post("/api/v1/tags", &[], &body).await?;
        return context.output.say(&format!("tagged {} boxes", text(&done, "/changed")));
    }
    let id = words.remove(0);
    let path = format!("/api/v1/devices/{id}/tags");
    let before = client.get(&path, &[]).await?;
    let mut tags = before.get("tags").and_then(Value::as_object).cloned().unwrap_or_default();
    let (set, remove) = read(&words)?;
    tags.retain(|name, _| !remove.contains(name));
    tags.extend(set);
    let answer = if words.is_empty() { before } else { client.put(&path, &json!({ "tags": tags })).await? };
    context.output.show(&answer, "/device", TAGS)
}

/// `NAME=VALUE` sets, `NAME-` removes.
fn read(words: &[String]) -> Result<(Map<String, Value>, Vec<String>), CliError> {
    let (mut set, mut remove) = (Map::new(), Vec::new());
    for word in words {
        match (word.split_once('='), word.strip_suffix('-')) {
            (Some((name, value)), _) => {
                set.insert(name.to_owned(), value.into());
            }
            (None, Some(name)) => remove.push(name.to_owned()),
            (None, None) => {
                let wrong = format!("error: '{word}' is no tag; write NAME=VALUE, or NAME- to remove it");
                return Err(CliError::Usage(wrong));
            }
        }
    }
    Ok((set, remove))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_set_and_remove() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (set, remove) = read(&words("ward=icu gpu=a=b legacy-")).unwrap();
        assert_eq!((set["ward"].as_str(), set["gpu"].as_str()), (Some("icu"), Some("a=b")));
        assert_eq!(remove, ["legacy"]);
        assert!(read(&words("ward")).is_err());
    }
}
