//! Who may import whom: reads the tree and refuses an import that points up or sideways, and a mind that touches the world.
//!
//! The table is the reading order of each crate. A module may use only modules of lower floors; `tests` and `cfg(test)`
//! submodules are not looked at.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Floors from the ground up. A module that is missing here, or here and nowhere else, fails the test too.
const AGENT: &[&[&str]] = &[
    &["oip", "onnx", "stopwatch", "disk", "clock", "config", "address", "back_off", "quiet"],
    &["reconcile", "measure", "labels", "tls"],
    &["blobs", "capture", "identity", "knock", "ledger", "spool", "engine", "trust"],
    &["shadow"],
    &["link", "door", "report", "capabilities", "serve", "eval", "trust_command"],
    &["selftest", "download", "renew", "facts"],
    &["activate"],
    &["runtime", "commands", "trust_command"],
    &["arguments"],
];

const FLEET: &[&[&str]] = &[
    &[
        "clock",
        "mint",
        "addresses",
        "attendance",
        "audit",
        "gate",
        "handback",
        "webhook",
        "rollup",
        "identity",
        "pace",
    ],
    &["rollout", "drift", "enrolment", "dataset", "pki", "admission", "password"],
    &["registry", "retrain", "needs"],
    &["config"],
    &["lineage", "store", "blob", "table", "label_studio", "broker", "publisher", "client", "oms"],
    &["oci", "sight"],
    &["link", "signer", "catalogue", "builder", "oidc", "smtp", "setup"],
    &["say", "ingest", "intake", "registrar", "orders", "deliver", "cli", "roster", "follow"],
    &["tasks", "fleet", "lookout"],
    &["figures", "checkup"],
    &["http", "door", "otlp", "openlineage", "hooks", "mail"],
    &["serve", "offline"],
    &["arguments"],
];

/// What decides and touches nothing. Paths without `.rs`; a folder of the same name belongs to it.
const MINDS: &[&str] = &[
    "protocol/src",
    "agent/src/reconcile",
    "fleet/src/audit",
    "fleet/src/gate",
    "fleet/src/rollout",
    "fleet/src/rollup",
    "fleet/src/needs",
    "fleet/src/drift",
    "fleet/src/registry",
    "fleet/src/lineage",
    "fleet/src/dataset",
    "fleet/src/retrain",
    "fleet/src/enrolment",
    "fleet/src/identity",
    "fleet/src/pace",
];

/// What a mind must not name.
const FORBIDDEN: &[&str] = &[
    "tokio::",
    "sqlx::",
    "axum::",
    "rumqttc::",
    "reqwest::",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "tracing::",
    "HashMap",
    "HashSet",
    "Instant::now",
    "SystemTime::now",
    "getrandom::",
    "println!",
    "async fn",
];

#[test]
fn imports_point_down_only() {
    let mut faults = Vec::new();
    for (name, floors) in [("agent", AGENT), ("fleet", FLEET)] {
        let floor: BTreeMap<&str, usize> = floors
            .iter()
            .enumerate()
            .flat_map(|(i, modules)| modules.iter().map(move |module| (*module, i)))
            .collect();
        let source = root().join(name).join("src");
        let mut seen = Vec::new();
        for file in rust_files(&source) {
            let Some(module) = module_of(&source, &file) else { continue };
            let Some(&own) = floor.get(module.as_str()) else {
                faults.push(format!("{name}: module '{module}' stands on no floor; put it into the table"));
                continue;
            };
            for used in crate_imports(&product_code(&file)) {
                match floor.get(used.as_str()) {
                    Some(&other) if used != module && other >= own => faults.push(format!(
                        "{}: '{module}' (floor {own}) uses '{used}' (floor {other}); imports point down only",
                        file.display()
                    )),
                    _ => {}
                }
            }
            seen.push(module);
        }
        let gone = floor.keys().filter(|module| !seen.iter().any(|found| found == *module));
        faults.extend(
            gone.map(|module| format!("{name}: there is no module '{module}'; take it out of the table")),
        );
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_crates_do_not_import_each_other() {
    for (name, other) in [("agent", "muster_fleet"), ("fleet", "muster_agent"), ("protocol", "muster_agent")]
    {
        for file in rust_files(&root().join(name).join("src")) {
            let code = product_code(&file);
            assert!(!code.contains(&format!("{other}::")), "{} uses {other}", file.display());
        }
    }
}

#[test]
fn minds_touch_nothing() {
    let mut faults = Vec::new();
    for mind in MINDS {
        let path = root().join(mind);
        let files = rust_files(&path)
            .into_iter()
            .chain([path.with_extension("rs")].into_iter().filter(|f| f.is_file()));
        for file in files {
            let code = product_code(&file);
            for word in FORBIDDEN.iter().filter(|word| code.contains(**word)) {
                faults.push(format!("{} names `{word}`", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_reader_of_imports_reads() {
    let code = "use crate::{a, b::c};\nuse crate::d;\nlet x = crate::e::f();\nuse crate::{\n    g,\n    h::{i, j},\n};";
    assert_eq!(crate_imports(code), ["a", "b", "d", "e", "g", "h"]);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The top module a file belongs to; none for the crate's own roots and for tests.
fn module_of(source: &Path, file: &Path) -> Option<String> {
    let inside = file.strip_prefix(source).unwrap();
    let first = inside.components().next()?.as_os_str().to_str()?;
    let stem = inside.file_stem()?.to_str()?;
    let test = stem == "tests" || stem == "properties";
    let module = first.strip_suffix(".rs").unwrap_or(first);
    (!test && !matches!(module, "lib" | "main" | "bin")).then(|| module.to_owned())
}

/// The file up to its tests, without comments.
fn product_code(file: &Path) -> String {
    let stem = file.file_stem().unwrap();
    if stem == "tests" || stem == "properties" {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Modules named after `crate::`, sorted.
fn crate_imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            let mut taken = false;
            for letter in list.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => taken = false,
                    _ => {}
                }
                if depth == 0 && !taken && (letter.is_ascii_lowercase() || letter == '_') {
                    word.push(letter);
                } else if !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                    taken = letter != ',';
                }
            }
            if !word.is_empty() {
                found.push(word);
            }
        } else {
            found.push(rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect());
        }
    }
    found.retain(|word: &String| !word.is_empty());
    found.sort();
    found.dedup();
    found
}
