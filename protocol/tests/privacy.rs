//! Nothing leaves a box that a type does not let out: one door, one closed set of types, and a table that names each field.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What a box says: over MQTT, and when it knocks at the fleet's door.
const OUTBOUND: [&str; 3] = ["Outbound", "EnrolRequest", "CertificateRequest"];

/// The only fields made of free words. What else is text is an id, a code, or a sentence of our own.
const WORDS: [&str; 17] = [
    "Hello.name",
    "Hello.agent_version",
    "Capabilities.arch",
    "Capabilities.cpu_model",
    "Capabilities.cpu_flags",
    "Capabilities.devices",
    "Capabilities.runtime",
    "Facts.arch",
    "Facts.cpu_model",
    "Refusal.code",
    "Phase.code",
    // A name in the signed manifest.
    "Running.variant",
    "EventKind.code",
    "EventKind.agent_version",
    // Somebody at the box wrote these for others to read.
    "LocalLease.owner",
    "EventKind.by",
    "EnrolRequest.name",
];

#[test]
fn everything_leaves_by_one_door_and_as_one_type() {
    let agent = root().join("agent/src");
    for file in files(&agent) {
        let name = file.strip_prefix(&agent).unwrap().display().to_string();
        let code = code_of(&file);
        let names = |word: &str| code.contains(word);
        assert!(name == "link.rs" || !names("rumqttc"), "{name} speaks MQTT");
        // The agent's own commands speak to it, on loopback.
        let at_home = name == "commands/local.rs" && names("is_loopback()");
        assert!(name == "door.rs" || at_home || !names("hyper::client"), "{name} speaks HTTP to others");
        assert!(name == "knock.rs" || at_home || !names("TcpStream::connect"), "{name} opens connections");
        // Who knocks: the door, and the doctor, who goes again without a word.
        let knocks = ["door.rs", "commands/doctor/reach.rs"].contains(&name.as_str());
        assert!(knocks || !names("knock::"), "{name} has connections opened");
        assert!(!names("UdpSocket") && !names("reqwest"), "{name} has a door of its own");
    }
    assert!(!code_of(&agent.join("knock.rs")).contains("write"), "what knocks says something");
    assert!(
        !code_of(&agent.join("commands/doctor/reach.rs")).contains("Knocked"),
        "the doctor keeps a connection"
    );
    let link = code_of(&agent.join("link.rs"));
    // A packet is made in one place, of an `Outbound`; and only packets' payloads are given to the library.
    assert_eq!(link.matches("Self { topic, retain").count(), 1);
    assert_eq!(link.matches("outbound.encode()").count(), 1);
    let publishes = link.matches("publish(").count() + link.matches("LastWill::new(").count();
    let of_packets = link.matches("publish(topic, QoS::AtLeastOnce, retain, payload)").count()
        + link.matches("LastWill::new(topic, payload,").count();
    assert_eq!((publishes, of_packets), (4, 4), "something is published that is no packet");
    assert_eq!(link.matches("Packet { topic, retain, payload }").count(), of_packets);
    let door = code_of(&agent.join("door.rs"));
    assert_eq!(door.matches("serde_json::to_vec(").count(), 3);
    assert_eq!(door.matches("serde_json::to_vec(&CertificateRequest").count(), 2);
    assert!(door.contains("request: &EnrolRequest") && door.contains("serde_json::to_vec(request)"));
}

#[test]
fn the_table_names_every_field_and_nothing_else_is_text() {
    let fields = outbound_fields();
    assert!(fields.len() > 100, "only {} fields were found", fields.len());
    let table = fs::read_to_string(root().join("docs/privacy.md")).unwrap();
    let table = table.split("## What leaves a box").nth(1).unwrap().split("\n## ").next().unwrap();
    let named: BTreeSet<&str> = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|word| word.contains('.') && word.starts_with(|letter: char| letter.is_ascii_uppercase()))
        .collect();
    let there: BTreeSet<&str> = fields.keys().map(String::as_str).collect();
    let missing: Vec<_> = there.difference(&named).collect();
    assert!(missing.is_empty(), "docs/privacy.md does not say why these leave a box: {missing:?}");
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(gone.is_empty(), "docs/privacy.md names fields that there are not: {gone:?}");
    let text = fields.iter().filter(|(_, kind)| kind.contains("String") || kind.contains("str"));
    let text: BTreeSet<&str> = text.map(|(field, _)| field.as_str()).collect();
    let csr = BTreeSet::from(["CertificateRequest.csr", "EnrolRequest.csr"]);
    let words: BTreeSet<&str> = WORDS.into_iter().chain(csr).collect();
    assert_eq!(text, words, "free words leave by other fields than those that are known");
}

/// `Type.field` with the field's type, of everything reachable from [`OUTBOUND`].
fn outbound_fields() -> BTreeMap<String, String> {
    let types = types();
    let mut fields = BTreeMap::new();
    let mut open: Vec<String> = OUTBOUND.map(str::to_owned).into();
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        let Some(body) = types.get(&name).filter(|_| seen.insert(name.clone())) else { continue };
        for part in body {
            open.extend(identifiers(part));
            if let Some((field, kind)) = part.split_once(": ") {
                let field = field.trim_start_matches("pub(super) ").trim_start_matches("pub ");
                fields.insert(format!("{name}.{field}"), kind.to_owned());
            }
        }
    }
    fields
}

/// The fields and variants of every type of the protocol that has any, as they are written.
fn types() -> BTreeMap<String, Vec<String>> {
    let mut types = BTreeMap::new();
    // Trust files only come in, and one of their types has the name of a message.
    let inbound = root().join("protocol/src/trust");
    for file in files(&root().join("protocol/src")).into_iter().filter(|file| !file.starts_with(&inbound)) {
        let code = code_of(&file);
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let line = line.trim_start_matches("pub(super) ").trim_start_matches("pub ");
            let Some(head) = line.strip_prefix("struct ").or_else(|| line.strip_prefix("enum ")) else {
                continue;
            };
            let Some(name) = head.strip_suffix(" {") else { continue };
            let body = lines.by_ref().take_while(|line| !line.starts_with('}')).map(str::trim);
            let parts = body.filter(|line| !line.starts_with('#') && !line.starts_with("//"));
            let parts = parts.map(|line| line.trim_end_matches(',').to_owned()).collect();
            types.insert(name.to_owned(), parts);
        }
    }
    types
}

fn identifiers(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_owned)
}

/// Without comments and tests.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
