//! What a new catalogue or root changes against the one before, in sentences.

use std::collections::BTreeSet;

use muster_protocol::ids::BundlePath;
use muster_protocol::trust::author::{AuthorError, Delegation, TargetsSpec};
use muster_protocol::trust::{Demands, MUSTER_FIELD, RevocationAction, Target};
use serde_json::Value;

use super::tls::TlsRoot;

/// Roles of a root, and where it names their keys.
const ROLES: [(&str, &str); 5] = [
    ("root", "/roles/root"),
    ("targets", "/roles/targets"),
    ("snapshot", "/roles/snapshot"),
    ("timestamp", "/roles/timestamp"),
    ("order", "/x-muster/order"),
];

/// Sentences, the grave ones first: what stops, what leaves, what comes.
pub fn of_catalogue(before: &TargetsSpec, after: &TargetsSpec) -> Result<Vec<String>, AuthorError> {
    let mut said = Vec::new();
    let (was, is) = (before.revocations()?, after.revocations()?);
    for (path, revocation) in &is {
        if was.get(path) != Some(revocation) {
            said.push(format!("revoke {path}: {}. {}", revocation.reason, effect(revocation.action)));
        }
    }
    for path in was.keys().filter(|path| !is.contains_key(path)) {
        said.push(format!("reinstate {path}: it may be put into the catalogue again"));
    }
    let (was, now) = (before.targets(), after.targets());
    let find = |all: &[Target], path: &BundlePath| all.iter().find(|target| target.path == *path).cloned();
    for target in &was {
        if find(&now, &target.path).is_none() && !is.contains_key(&target.path) {
            said.push(format!(
                "yank {}: no box activates it any more; where it runs, it runs on",
                target.path
            ));
        }
    }
    for target in &now {
        match find(&was, &target.path) {
            None => said.push(format!("add {} for {}", target.path, demands(target))),
            Some(old) if old.sha256 != target.sha256 => said.push(format!("replace {}", target.path)),
            Some(old) if demands(&old) != demands(target) => {
                said.push(format!("change {}: from {} to {}", target.path, demands(&old), demands(target)));
            }
            Some(_) => {}
        }
    }
    said.extend(delegations(&before.delegations(), &after.delegations()));
    Ok(said)
}

/// What a root, signed or not yet, changes against the one before; of the first one, all that it says. Read from the part
/// that is signed, so that a key holder sees what a signature would be under.
pub fn of_root(before: Option<&Value>, after: &Value) -> Vec<String> {
    let mut said = Vec::new();
    let text = |root: Option<&Value>, pointer: &str| root.and_then(|root| root.pointer(pointer)).cloned();
    for (name, pointer) in ROLES {
        let keys = |root| strings(text(root, &format!("{pointer}/keyids")));
        let (was, is) = (keys(before), keys(Some(after)));
        let short = |id: &str| id.chars().take(12).collect::<String>();
        said.extend(is.difference(&was).map(|id| format!("{name}: add key {}", short(id))));
        said.extend(was.difference(&is).map(|id| format!("{name}: remove key {}", short(id))));
        let threshold = |root| text(root, &format!("{pointer}/threshold")).and_then(|value| value.as_u64());
        if threshold(before) != threshold(Some(after)) {
            let (needed, of) = (threshold(Some(after)).unwrap_or(0), is.len());
            said.push(format!("{name}: {needed} of {of} keys must sign"));
        }
    }
    let tls = |root| strings(text(root, &format!("/{MUSTER_FIELD}/tls_roots")));
    let (was, is) = (tls(before), tls(Some(after)));
    let named = |pem: &str| match TlsRoot::parse(pem) {
        Ok(root) => format!("{} ({})", root.subject, root.fingerprint.short()),
        Err(error) => error.to_string(),
    };
    said.extend(is.difference(&was).map(|pem| format!("TLS: trust {}", named(pem))));
    said.extend(was.difference(&is).map(|pem| format!("TLS: distrust {}", named(pem))));
    said
}

fn strings(list: Option<Value>) -> BTreeSet<String> {
    let list = list.and_then(|list| list.as_array().cloned()).unwrap_or_default();
    list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// What boxes do about a revoked bundle.
pub fn effect(action: RevocationAction) -> &'static str {
    match action {
        RevocationAction::Stop => {
            "Boxes that run it stop answering from that slot as soon as they see this, and say why; none activates it again"
        }
        RevocationAction::Retain => {
            "Boxes that run it run on until something replaces it, and report it; none activates it again, a rollback neither"
        }
    }
}

/// What a bundle asks of a box, for people.
pub fn demands(target: &Target) -> String {
    match Demands::of(&target.custom) {
        Err(error) => error.to_string(),
        Ok(Demands { hardware, min_agent }) => {
            let classes: Vec<&str> = hardware.iter().map(AsRef::as_ref).collect();
            let on = if classes.is_empty() { "any hardware".to_owned() } else { classes.join(" or ") };
            min_agent.map_or_else(|| on.clone(), |agent| format!("{on}, agent {agent} or newer"))
        }
    }
}

fn delegations(was: &[Delegation], is: &[Delegation]) -> Vec<String> {
    let mut said = Vec::new();
    for delegation in is {
        let Delegation { role, patterns, keys, .. } = delegation;
        let what = format!("{} to {} of {} keys", patterns.join(", "), keys.threshold, keys.keys.len());
        match was.iter().find(|old| old.role == *role) {
            None => said.push(format!("delegate to {role}: {what}")),
            Some(old) if old != delegation => said.push(format!("change what {role} may list: {what}")),
            Some(_) => {}
        }
    }
    let gone = was.iter().filter(|old| !is.iter().any(|new| new.role == old.role));
    said.extend(
        gone.map(|old| format!("end the delegation to {}: all it lists leaves the catalogue", old.role)),
    );
    said
}

#[cfg(test)]
mod tests {
    use muster_protocol::trust::author::{self, Keys};
    use muster_protocol::trust::{Revocation, SecretKey, Sign as _};
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_sentences() {
        let path = |text: &str| -> BundlePath { text.parse().unwrap() };
        let mut before = TargetsSpec::empty();
        for version in ["1", "2", "3"] {
            before.put(&author::target(path(&format!("bundles/er/{version}.json")), b"x", json!({})));
        }
        let mut after = before.clone();
        assert_eq!(of_catalogue(&before, &after).unwrap(), Vec::<String>::new());
        let revocation = Revocation { reason: "miscalibrated".to_owned(), action: RevocationAction::Stop };
        after.revoke(&path("bundles/er/1.json"), revocation).unwrap();
        after.remove(&path("bundles/er/2.json"));
        let custom = json!({"hardware": ["x86_64-cpu"], "min_agent": "0.2.0"});
        after.put(&author::target(path("bundles/er/3.json"), b"x", custom.clone()));
        after.put(&author::target(path("bundles/er/4.json"), b"x", custom));
        after.delegate(&"er".parse().unwrap(), &Keys::one(SecretKey::from_seed([1; 32]).key())).unwrap();
        let said = of_catalogue(&before, &after).unwrap();
        for (sentence, expect) in said.iter().zip([
            "revoke bundles/er/1.json: miscalibrated. Boxes that run it stop",
            "yank bundles/er/2.json",
            "change bundles/er/3.json: from any hardware to x86_64-cpu, agent 0.2.0 or newer",
            "add bundles/er/4.json for x86_64-cpu, agent 0.2.0 or newer",
            "delegate to auto-er: bundles/er/auto/* to 1 of 1 keys",
        ]) {
            assert!(sentence.starts_with(expect), "{sentence}");
        }
        assert_eq!(said.len(), 5);
        let back = of_catalogue(&after, &before).unwrap();
        assert!(back.iter().any(|s| s.starts_with("reinstate bundles/er/1.json")), "{back:?}");
        assert!(back.iter().any(|s| s.starts_with("end the delegation to auto-er")), "{back:?}");
    }
}
