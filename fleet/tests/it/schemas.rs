//! JSON Schemas of others and our own, all local: what a document is held against must not depend on a network.

use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

pub(crate) struct Schemas(Vec<(String, Value)>);

impl Schemas {
    /// OpenLineage's, and those of our facets.
    pub(crate) fn openlineage() -> Self {
        Self::of(&["tests/specs/openlineage", "../docs/schemas/openlineage"])
    }

    pub(crate) fn modelpack() -> Self {
        Self::of(&["tests/specs/modelpack"])
    }

    fn of(folders: &[&str]) -> Self {
        let mut schemas = Vec::new();
        for folder in folders {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            for entry in std::fs::read_dir(folder).unwrap() {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap();
                let schema: Value = serde_json::from_slice(&bytes).unwrap();
                schemas.push((schema["$id"].as_str().unwrap().to_owned(), schema));
            }
        }
        Self(schemas)
    }

    fn validator(&self, reference: &str) -> Validator {
        let mut registry = jsonschema::Registry::new();
        for (id, schema) in &self.0 {
            registry = registry.add(id.as_str(), schema.clone()).unwrap();
        }
        let registry = registry.prepare().unwrap();
        let schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": reference});
        jsonschema::options()
            .with_registry(&registry)
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{reference}: {error}"))
    }

    pub(crate) fn holds(&self, reference: &str, document: &Value) -> bool {
        self.validator(reference).is_valid(document)
    }

    pub(crate) fn check(&self, reference: &str, document: &Value) {
        let validator = self.validator(reference);
        let faults: Vec<String> = validator
            .iter_errors(document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{reference}: {faults:#?}\n{document:#}");
    }
}
