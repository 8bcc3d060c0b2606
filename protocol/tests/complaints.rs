//! The table of complaints names a test in every row that it calls fixed; here is held that each of them exists.

#![expect(clippy::unwrap_used, reason = "a tree that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_complaint_has_its_row_and_every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut known = BTreeSet::new();
    for folder in ["protocol", "agent", "fleet"] {
        names_in(&root.join(folder).join("src"), &mut known);
        names_in(&root.join(folder).join("tests"), &mut known);
    }
    let table = fs::read_to_string(root.join("docs/complaints.md")).unwrap();
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [number, issue, complaint, here, how, proof] = cells[..] else { panic!("six cells: {line}") };
        assert!([issue, complaint, how].iter().all(|cell| !cell.is_empty()), "{line}");
        rows.push(number.parse::<usize>().unwrap());
        let named: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        match here {
            "fixed" => assert!(!named.is_empty(), "no test proves: {line}"),
            "left" | "not applicable" => assert!(!named.is_empty() || proof == "-", "{line}"),
            other => panic!("'{other}' is none of fixed, left and not applicable: {line}"),
        }
        for test in named {
            assert!(known.contains(test), "there is no test '{test}', which should prove: {line}");
        }
    }
    assert_eq!(rows, (1..=50).collect::<Vec<_>>());
}

/// Names of the functions under a `test` attribute, properties among them, and of scripts.
fn names_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ends_with = |end: &str| path.extension().is_some_and(|extension| extension == end);
        if path.is_dir() {
            names_in(&path, found);
        } else if ends_with("script") {
            found.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        } else if ends_with("rs") {
            let mut marked = false;
            for line in fs::read_to_string(&path).unwrap().lines().map(str::trim) {
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
