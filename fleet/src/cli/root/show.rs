//! `muster root show`: the newest root, with the keys' names where they are known, and the draft of the next one.

use muster_protocol::trust::{Envelope, FileName, KeyId, Role, TrustedSet};
use serde_json::{Value, json};

use super::super::output::{Column, text};
use super::super::{CliError, Context};
use super::{said, summary};
use crate::publisher::Workspace;
use crate::publisher::tls::TlsRoot;

const FIELDS: &[Column] = &[
    Column { title: "Version", cell: |root| text(root, "/version") },
    Column { title: "Expires", cell: |root| text(root, "/expires") },
    Column { title: "Root", cell: |root| role(root, "root") },
    Column { title: "Targets", cell: |root| role(root, "targets") },
    Column { title: "Snapshot", cell: |root| role(root, "snapshot") },
    Column { title: "Timestamp", cell: |root| role(root, "timestamp") },
    Column { title: "Order", cell: |root| role(root, "order") },
    Column { title: "TLS roots", cell: |root| tls(root) },
];

pub(super) fn show(context: &mut Context, workspace: &Workspace) -> Result<(), CliError> {
    match workspace.root().map_err(CliError::other)? {
        None => context.output.say("there is no finished root yet")?,
        Some(root) => context.output.show(&told(workspace, &root)?, "/version", FIELDS)?,
    }
    if workspace.signing(&FileName::Root(1)).map_err(CliError::other)?.is_some() {
        let draft = workspace.root_draft().map_err(CliError::other)?;
        context.output.say("a draft waits for signatures:")?;
        summary(context, workspace, &draft)?;
        said(context, &draft.progress())?;
    }
    Ok(())
}

fn told(workspace: &Workspace, root: &TrustedSet) -> Result<Value, CliError> {
    let names = workspace.names().map_err(CliError::other)?;
    let envelope = Envelope::parse(root.root_bytes()).map_err(CliError::other)?;
    let key = |id: &KeyId| json!({ "key_id": id, "name": names.get(id) });
    let role = |role: Role| {
        let keys: Vec<Value> = root.keys(role).keys().map(key).collect();
        json!({ "threshold": root.count(role, &envelope).needed, "keys": keys })
    };
    let tls_roots = root.muster().tls_roots.iter().map(|pem| match TlsRoot::parse(pem) {
        Ok(root) => json!({
            "subject": root.subject, "fingerprint": root.fingerprint, "expires": root.expires.to_string(),
        }),
        Err(error) => json!({ "subject": error.to_string() }),
    });
    Ok(json!({
        "version": root.versions().root,
        "expires": root.expiries().get("root.json").map(ToString::to_string),
        "root": role(Role::Root),
        "targets": role(Role::Targets),
        "snapshot": role(Role::Snapshot),
        "timestamp": role(Role::Timestamp),
        "order": role(Role::Order),
        "tls_roots": tls_roots.collect::<Vec<_>>(),
    }))
}

fn role(root: &Value, name: &str) -> String {
    let keys = root.pointer(&format!("/{name}/keys")).and_then(Value::as_array);
    let told = keys.into_iter().flatten().map(|key| {
        let id: String = text(key, "/key_id").chars().take(12).collect();
        match text(key, "/name") {
            name if name.is_empty() => id,
            name => format!("{name} ({id})"),
        }
    });
    let told: Vec<String> = told.collect();
    format!("{} of {}", text(root, &format!("/{name}/threshold")), told.join(", "))
}

fn tls(root: &Value) -> String {
    let roots = root.pointer("/tls_roots").and_then(Value::as_array);
    let told = roots.into_iter().flatten().map(|root| {
        format!(
            "{} until {} ({})",
            text(root, "/subject"),
            text(root, "/expires"),
            text(root, "/fingerprint")
        )
    });
    told.collect::<Vec<_>>().join("; ")
}
