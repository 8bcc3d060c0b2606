//! What the fleet has published, as files that any TUF client and any web server understand.
//!
//! ```text
//!   DIR/metadata/1.root.json … timestamp.json, 7.snapshot.json, 3.targets.json, 5.auto-er.json
//!   DIR/targets/bundles/er/<sha256>.1.0.0.json     manifests
//!   DIR/blobs/<sha256>                             every file that a manifest names
//! ```
//!
//! All of it is verified with the workspace's root before it is written, content first and `timestamp.json` last: a
//! client that reads along sees the old state or the new one.

use std::path::{Path, PathBuf};

use muster_protocol::ids::Digest;
use muster_protocol::limits::MANIFEST_BYTES_MAX;
use muster_protocol::manifest::Manifest;
use muster_protocol::trust::{FileName, Files, Outcome, TrustedSet, author};

use super::super::{CliError, Context, now};
use crate::client::Client;
use crate::publisher::{Workspace, mirror};

/// The fleet may publish between two of our requests.
const TRIES: usize = 5;
const ROOTS_MAX: u64 = 10_000;

pub(super) async fn run(
    context: &mut Context,
    workspace: &Workspace,
    dir: &Path,
    metadata_only: bool,
) -> Result<(), CliError> {
    let client = context.client()?;
    let roots = roots(&client, workspace).await?;
    let trusted = state(&client, workspace, &roots).await?;
    let targets = trusted.targets();
    for target in &targets {
        let path = dir.join("targets").join(mirror::target_name(&target.path, &target.sha256));
        fetch(&client, &target.sha256, &path, target.length).await?;
        if metadata_only {
            continue;
        }
        let bytes = std::fs::read(&path)?;
        for file in Manifest::parse(&bytes).map_err(CliError::other)?.files {
            fetch(&client, &file.sha256, &dir.join("blobs").join(file.sha256.to_string()), file.length)
                .await?;
        }
    }
    write_metadata(dir, &roots, &trusted)?;
    context.output.say(&format!(
        "{} bundles of catalogue {} are in {}; its timestamp expires {}",
        targets.len(),
        trusted.versions().targets.unwrap_or(0),
        dir.display(),
        trusted.expiries().get("timestamp.json").map(ToString::to_string).unwrap_or_default()
    ))?;
    context.output.line(&dir.display().to_string())
}

/// Every root there is: a client that was away for years walks them all.
async fn roots(client: &Client, workspace: &Workspace) -> Result<Files, CliError> {
    let mut roots = Files::new();
    for version in 1..=ROOTS_MAX {
        let name = FileName::Root(version).wire();
        let Some(bytes) = client.trust_file(&name).await? else { break };
        let own = std::fs::read(workspace.metadata(&name)).ok();
        if own.is_some_and(|own| own != bytes) {
            return Err(CliError::failed(
                format!("{name} on the fleet is another one than here; nothing was written"),
                "ask who signed it before you trust either",
            ));
        }
        roots.insert(name, bytes);
    }
    Ok(roots)
}

/// The published state as a box would accept it now.
async fn state(client: &Client, workspace: &Workspace, roots: &Files) -> Result<TrustedSet, CliError> {
    let mut missing = Vec::new();
    for _ in 0..TRIES {
        let mut trusted = workspace.root().map_err(CliError::other)?.ok_or_else(|| {
            CliError::failed(
                "this workspace has no root to verify the fleet's files with",
                "muster release pull --root root.json",
            )
        })?;
        let mut files = roots.clone();
        let fixed = [FileName::Timestamp, FileName::Snapshot, FileName::Targets].map(|file| file.wire());
        for name in fixed {
            files.extend(client.trust_file(&name).await?.map(|bytes| (name, bytes)));
        }
        let pins = files.get("snapshot.json").map(|bytes| author::pins_of(bytes)).transpose();
        for name in pins.map_err(CliError::other)?.unwrap_or_default().into_keys() {
            if !files.contains_key(&name) {
                files.extend(client.trust_file(&name).await?.map(|bytes| (name, bytes)));
            }
        }
        match trusted.refresh(&files, now()).map_err(CliError::other)?.outcome {
            Outcome::Incomplete { missing: some } => missing = some,
            Outcome::Unchanged | Outcome::Updated => return Ok(trusted),
        }
    }
    Err(CliError::failed(
        format!("the fleet has not published {} yet; nothing was written", missing.join(", ")),
        "publish a release first: `muster release publish`",
    ))
}

fn write_metadata(dir: &Path, roots: &Files, trusted: &TrustedSet) -> Result<(), CliError> {
    let dir = dir.join("metadata");
    let write = |name: &str, bytes: &[u8]| mirror::write(&dir.join(name), bytes).map_err(CliError::other);
    for (name, bytes) in roots {
        write(name, bytes)?;
    }
    for (name, bytes) in trusted.files().iter().filter(|(name, _)| *name != "timestamp.json") {
        let file: FileName = name.parse().map_err(CliError::other)?;
        let versions = trusted.versions();
        let version = match &file {
            FileName::Snapshot => versions.snapshot,
            FileName::Targets => versions.targets,
            FileName::Delegated(role) => versions.delegated.get(role).copied(),
            FileName::Root(version) => Some(*version),
            FileName::Timestamp => versions.timestamp,
        };
        write(&file.stored(version.unwrap_or(0)), bytes)?;
    }
    write("timestamp.json", trusted.file("timestamp.json").unwrap_or_default())
}

/// A blob into a file, unless it is there; what came is checked before it gets its name.
async fn fetch(client: &Client, digest: &Digest, path: &Path, length: u64) -> Result<(), CliError> {
    if path.metadata().is_ok_and(|there| there.is_file() && there.len() == length) {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let part = PathBuf::from(format!("{}.part", path.display()));
    match std::fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    client.get_blob(digest, &part, length.max(MANIFEST_BYTES_MAX)).await?;
    std::fs::File::open(&part)?.sync_all()?;
    Ok(std::fs::rename(&part, path)?)
}
