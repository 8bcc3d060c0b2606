//! The signed record of a rollout: fetched from the server, and checked without any.

use std::path::Path;

use muster_protocol::trust::{Envelope, Role, TrustedSet};
use serde_json::Value;

use super::path;
use crate::cli::{CliError, Context};
use crate::rollout::evidence::{self, Findings, Pack, Sealed};

pub(super) const HELP: &str = "\
Checked are: the signature, by the order keys of the root; that counts add up and each stage's end agrees with its gate;
approvals; the gate's newest answer, computed again from its inputs; and, where the record holds the history, every step
of it, lived again by the engine.

Exit codes:
  0  all of it holds
  1  the file or the root cannot be read
  3  something differs; it is named on stderr

Examples:
  muster rollout evidence ro-… --out ro.evidence.json
  muster rollout verify-evidence ro.evidence.json --root 1.root.json";

pub(super) async fn fetch(context: &mut Context, id: &str, out: &Path) -> Result<(), CliError> {
    let pack = context.client()?.get(&format!("{}/evidence", path(id)), &[]).await?;
    keep(context, out, &pack)
}

/// What the engine was told, as `muster rollout replay` reads it.
pub(super) async fn journal(context: &mut Context, id: &str, out: &Path) -> Result<(), CliError> {
    let query = [("limit", "500".to_owned())];
    let mut listed = context.client()?.list(&format!("{}/journal", path(id)), &query).await?;
    let entries = listed.get_mut("items").map(Value::take).unwrap_or_default();
    keep(context, out, &entries)
}

/// Written whole, or not at all.
fn keep(context: &mut Context, out: &Path, document: &Value) -> Result<(), CliError> {
    let wrong =
        |error: std::io::Error| CliError::failed(format!("{}: {error}", out.display()), "name another file");
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(wrong)?;
    std::io::Write::write_all(&mut file, document.to_string().as_bytes()).map_err(wrong)?;
    file.as_file().sync_all().map_err(wrong)?;
    file.persist(out).map_err(|error| wrong(error.error))?;
    context.output.line(&format!("{}", out.display()))
}

pub(super) fn verify(context: &mut Context, file: &Path, root: &Path) -> Result<(), CliError> {
    let found = check(&read(file)?, &read(root)?)?;
    for what in &found.checked {
        context.output.line(&format!("holds    {what}"))?;
    }
    if found.differs.is_empty() {
        return context.output.line("the evidence holds");
    }
    Err(CliError::EndedBadly(format!("the evidence does not hold:\n  {}", found.differs.join("\n  "))))
}

/// Everything that can be known of these bytes by somebody who trusts this root.
fn check(file: &[u8], root: &[u8]) -> Result<Findings, CliError> {
    let trusted = TrustedSet::from_root(root).map_err(CliError::other)?;
    let refused = |what: String| Findings { checked: Vec::new(), differs: vec![what] };
    let envelope = match Envelope::parse(file) {
        Ok(envelope) => envelope,
        Err(error) => return Ok(refused(format!("the file: {error}"))),
    };
    let signed = trusted.count(Role::Order, &envelope);
    if !signed.met() {
        return Ok(refused(format!(
            "signature: {} of the {} that the root's order keys must give",
            signed.found, signed.needed
        )));
    }
    let sealed: Sealed = match envelope.document() {
        Ok(sealed) => sealed,
        Err(error) => return Ok(refused(format!("what is signed is no evidence: {error}"))),
    };
    if sealed.type_ != evidence::TYPE {
        return Ok(refused(format!("it is signed, but as '{}' and not as evidence", sealed.type_)));
    }
    let pack: Pack = match serde_json::from_str(&sealed.record) {
        Ok(pack) => pack,
        Err(error) => return Ok(refused(format!("the record: {error}"))),
    };
    let mut found = pack.verify();
    found
        .checked
        .insert(0, format!("signed by {} order key of the root, made {}", signed.found, sealed.made));
    if pack.rollout.id != sealed.rollout {
        found.differs.push(format!("sealed as {}, and the record is of {}", sealed.rollout, pack.rollout.id));
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let wrong = |what: String| CliError::failed(format!("{}: {what}", path.display()), "name the right file");
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > evidence::BYTES_MAX as u64 {
        return Err(wrong(format!("is {length} bytes long; the limit is {}", evidence::BYTES_MAX)));
    }
    std::fs::read(path).map_err(|error| wrong(error.to_string()))
}
