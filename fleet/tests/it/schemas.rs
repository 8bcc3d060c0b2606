//! JSON Schemas of others and our own, asked by Python's `jsonschema`: what a document is held against must not be read by
//! us, and must not depend on a network.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

pub(crate) struct Schemas(&'static [&'static str]);

/// Of this crate's folder.
const OPENLINEAGE: Schemas = Schemas(&["tests/specs/openlineage", "../docs/schemas/openlineage"]);
const MODELPACK: Schemas = Schemas(&["tests/specs/modelpack"]);

impl Schemas {
    /// `OpenLineage`'s, and those of our facets.
    pub(crate) fn openlineage() -> &'static Self {
        &OPENLINEAGE
    }

    pub(crate) fn modelpack() -> &'static Self {
        &MODELPACK
    }

    /// The faults of each document.
    pub(crate) fn ask(&self, questions: &[(String, Value)]) -> Vec<Vec<String>> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../.muster/client/bin/python");
        assert!(python.is_file(), "{} is missing: make client", python.display());
        let mut child = Command::new(python)
            .arg(root.join("tests/interop/schemas.py"))
            .args(self.0.iter().map(|folder| root.join(folder)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines: Vec<String> = questions
            .iter()
            .map(|(schema, document)| json!({"schema": schema, "document": document}).to_string())
            .collect();
        child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let faults: Vec<Vec<String>> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(faults.len(), questions.len());
        faults
    }

    pub(crate) fn holds(&self, schema: &str, document: &Value) -> bool {
        self.ask(&[(schema.to_owned(), document.clone())])[0].is_empty()
    }

    pub(crate) fn check(&self, questions: &[(String, Value)]) {
        for ((schema, document), faults) in questions.iter().zip(self.ask(questions)) {
            assert!(faults.is_empty(), "{schema}: {faults:#?}\n{document:#}");
        }
    }
}
