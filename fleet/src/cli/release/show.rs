//! What a list holds, and what its draft would change.

use muster_protocol::trust::author::TargetsSpec;
use muster_protocol::trust::{Demands, FileName};
use serde_json::{Value, json};

use super::super::output::{Column, text};
use super::super::{CliError, Context};
use super::edit;
use crate::publisher::{Draft, SINCE, Workspace, changes};

const COLUMNS: &[Column] = &[
    Column { title: "PATH", cell: |item| text(item, "/path") },
    Column { title: "SHA256", cell: |item| text(item, "/sha256").chars().take(12).collect() },
    Column { title: "FOR", cell: |item| text(item, "/for") },
    Column { title: "SINCE", cell: |item| text(item, "/since") },
    Column { title: "STATE", cell: |item| text(item, "/state") },
];

/// What a fixed draft changes against what this workspace knows.
pub(in crate::cli) fn sentences(
    workspace: &Workspace,
    list: &FileName,
    draft: &Draft,
) -> Result<Vec<String>, CliError> {
    let before = workspace.published(list).map_err(CliError::other)?.unwrap_or_else(TargetsSpec::empty);
    let after = TargetsSpec::parse(&draft.envelope().to_bytes()).map_err(CliError::other)?;
    changes::of_catalogue(&before, &after).map_err(CliError::other)
}

fn drafted(workspace: &Workspace, list: &FileName) -> Result<Vec<String>, CliError> {
    if let Some(draft) = workspace.signing(list).map_err(CliError::other)? {
        return sentences(workspace, list, &draft);
    }
    let before = workspace.published(list).map_err(CliError::other)?.unwrap_or_else(TargetsSpec::empty);
    let after = workspace.catalogue(list).map_err(CliError::other)?;
    changes::of_catalogue(&before, &after).map_err(CliError::other)
}

pub(super) fn tell_changes(
    context: &mut Context,
    workspace: &Workspace,
    list: &FileName,
) -> Result<(), CliError> {
    let sentences = drafted(workspace, list)?;
    if sentences.is_empty() {
        return context.output.say("nothing changes but version and expiry");
    }
    sentences.iter().try_for_each(|sentence| context.output.say(&format!("  {sentence}")))
}

pub(super) fn diff(context: &mut Context, workspace: &Workspace, list: &FileName) -> Result<(), CliError> {
    let sentences = drafted(workspace, list)?;
    if sentences.is_empty() {
        return context.output.say("the draft changes nothing");
    }
    sentences.iter().try_for_each(|sentence| context.output.line(sentence))
}

pub(super) fn show(context: &mut Context, workspace: &Workspace, list: &FileName) -> Result<(), CliError> {
    let spec = match workspace.signing(list).map_err(CliError::other)? {
        Some(draft) => TargetsSpec::parse(&draft.envelope().to_bytes()).map_err(CliError::other)?,
        None => workspace.catalogue(list).map_err(CliError::other)?,
    };
    let published = workspace.published(list).map_err(CliError::other)?;
    context.output.say(&match &published {
        None => format!("{list} is not published yet"),
        Some(spec) => {
            format!("{list} version {} is published and expires {}", spec.version(), spec.expires())
        }
    })?;
    let listed = spec.targets().into_iter().map(|target| {
        let demands = Demands::of(&target.custom).unwrap_or_default();
        json!({
            "path": target.path, "sha256": target.sha256, "for": changes::demands(&target),
            "hardware": demands.hardware, "min_agent": demands.min_agent,
            "since": target.custom.get(SINCE), "state": "listed",
        })
    });
    let revoked = spec.revocations().map_err(CliError::other)?;
    let revoked = revoked.iter().map(|(path, revocation)| {
        let state = format!("revoked ({}): {}", edit::word(revocation.action), revocation.reason);
        json!({ "path": path, "state": state, "revoked": revocation })
    });
    let items: Vec<Value> = listed.chain(revoked).collect();
    let answer = json!({
        "items": items,
        "version": published.as_ref().map(TargetsSpec::version),
        "expires": published.as_ref().map(|spec| spec.expires().to_string()),
    });
    context.output.list(&answer, "/path", COLUMNS)
}
