//! Between the workspace and the server: what was signed goes up, what others published comes down and is verified.

use std::path::Path;

use muster_protocol::trust::author::TargetsSpec;
use muster_protocol::trust::{FileName, Files};

use super::super::{CliError, Context};
use crate::client::Client;
use crate::publisher::Workspace;

/// Roots uploaded at most; one a year.
const ROOTS_MAX: u64 = 10_000;

/// Refuses to go on from a version that is not the newest any more.
pub(super) async fn check(client: &Client, workspace: &Workspace, list: &FileName) -> Result<(), CliError> {
    let Some(theirs) = client.trust_file(&list.wire()).await? else { return Ok(()) };
    let published = TargetsSpec::parse(&theirs).map_err(CliError::other)?.version();
    let own = workspace.published(list).map_err(CliError::other)?.map_or(0, |spec| spec.version());
    if published < own {
        return Ok(());
    }
    let same = std::fs::read(workspace.metadata(&list.wire())).is_ok_and(|bytes| bytes == theirs);
    if same {
        return Ok(());
    }
    let what = if published == own {
        format!(
            "{list} version {own} on the fleet is another one than here: somebody else signed that version"
        )
    } else {
        format!(
            "{list} is at version {published} on the fleet and at {own} here: somebody published meanwhile"
        )
    };
    Err(CliError::failed(
        what,
        "note your changes (`muster release diff`), give them up (`muster release discard`), `muster release pull`, \
         and make them again",
    ))
}

/// Roots first: they say whose catalogue it is.
pub(super) async fn push(
    context: &mut Context,
    workspace: &Workspace,
    list: &FileName,
) -> Result<(), CliError> {
    let client = context.client()?;
    let newest = workspace.root().map_err(CliError::other)?.map_or(0, |root| root.versions().root);
    for version in 1..=newest.min(ROOTS_MAX) {
        let name = FileName::Root(version).wire();
        let path = workspace.metadata(&name);
        // A workspace that began at a later root has none of the earlier ones.
        if path.is_file() && upload(&client, &name, &path).await? {
            context.output.say(&format!("uploaded {name}"))?;
        }
    }
    let name = list.wire();
    if upload(&client, &name, &workspace.metadata(&name)).await? {
        context.output.say(&format!("uploaded {name}"))?;
    }
    context.output.line(&name)
}

/// Takes over newer roots, the catalogue and what its roles list.
pub(super) async fn pull(
    context: &mut Context,
    workspace: &Workspace,
    root: Option<&Path>,
) -> Result<(), CliError> {
    let mut adopted = Vec::new();
    if let Some(path) = root {
        let bytes = std::fs::read(path)
            .map_err(|error| CliError::failed(format!("{}: {error}", path.display()), "is it the root?"))?;
        adopted.extend(workspace.pin(&bytes).map_err(CliError::other)?.files);
    }
    let client = context.client()?;
    loop {
        let name = workspace.next_root().map_err(CliError::other)?.wire();
        let Some(bytes) = client.trust_file(&name).await? else { break };
        adopted.extend(workspace.adopt(&Files::from([(name, bytes)])).map_err(CliError::other)?.files);
    }
    let name = FileName::Targets.wire();
    if let Some(bytes) = client.trust_file(&name).await? {
        let roles = TargetsSpec::parse(&bytes).map_err(CliError::other)?.delegations();
        let mut offered = Files::from([(name, bytes)]);
        for role in roles {
            let name = FileName::delegated(&role.role).map_err(CliError::other)?.wire();
            if let Some(bytes) = client.trust_file(&name).await? {
                offered.insert(name, bytes);
            }
        }
        adopted.extend(workspace.adopt(&offered).map_err(CliError::other)?.files);
    }
    if adopted.is_empty() {
        return context.output.say("up to date with the fleet");
    }
    adopted.iter().try_for_each(|file| context.output.say(&format!("took over {file}")))
}

/// Whether the server did not have it yet.
async fn upload(client: &Client, name: &str, path: &Path) -> Result<bool, CliError> {
    let bytes = std::fs::read(path).map_err(|error| {
        CliError::failed(
            format!("{}: {error}", path.display()),
            "sign first: `muster root sign`, `muster release publish`",
        )
    })?;
    if client.trust_file(name).await?.is_some_and(|present| present == bytes) {
        return Ok(false);
    }
    client.put_trust_file(name, bytes).await?;
    Ok(true)
}
