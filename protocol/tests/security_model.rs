//! The security model names a test in every row of its tables; here is held that each of them exists.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_row_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeSet::new();
    for folder in ["protocol", "agent", "fleet"] {
        tests_in(&root.join(folder).join("src"), &mut known);
        tests_in(&root.join(folder).join("tests"), &mut known);
    }
    assert!(known.len() > 500, "only {} tests were found", known.len());
    let model = fs::read_to_string(root.join("docs/SECURITY-MODEL.md")).unwrap();
    let mut rows = 0;
    let mut proves = false;
    for line in model.lines() {
        if !line.starts_with('|') {
            proves = false;
        } else if line.contains("proved by") {
            proves = true;
        } else if proves && !line.starts_with("|---") {
            rows += 1;
            let last = line.trim_end_matches('|').rsplit('|').next().unwrap();
            let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
            assert!(!named.is_empty(), "no test proves: {line}");
            for test in named {
                assert!(known.contains(test), "there is no test '{test}', which should prove: {line}");
            }
        }
    }
    assert!(rows >= 37, "only {rows} rows were found");
}

/// Names of the functions under a `test` attribute.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut marked = false;
            for line in text.lines().map(str::trim) {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    marked = true;
                } else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))
                    && std::mem::take(&mut marked)
                {
                    found.extend(rest.split(['(', '<']).next().map(str::to_owned));
                }
            }
        }
    }
}
