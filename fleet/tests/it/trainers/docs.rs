//! docs/retraining.md, as the programs read it: whoever copies from it starts with what is understood.

use std::path::Path;

use muster_fleet::builder::config::Config as BuilderConfig;
use muster_fleet::config::Config;
use muster_fleet::handback::OutputPath;
use serde_json::Value;

fn text() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/retraining.md")).unwrap()
}

/// What stands between fences of this language.
fn blocks(language: &str) -> Vec<String> {
    let (text, fence) = (text(), format!("```{language}\n"));
    let after = text.split(&fence).skip(1);
    after.map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// A builder's configuration with these lines at its end.
fn builder(lines: &str) -> Result<BuilderConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("builder.toml");
    let text = format!(
        "name = 'b1'\nfleet = 'http://127.0.0.1:8480'\nwork_dir = 'work'\nkey = 'builder.key'\nroot = 'root.json'\n\
         agent = 'muster-agent'\nruntime = 'runtime'\n{lines}"
    );
    std::fs::write(&path, text).unwrap();
    BuilderConfig::read(&path).map_err(|error| format!("{error:?}"))
}

#[test]
fn every_configuration_is_understood() {
    let mut kinds = Vec::new();
    let mut of_the_server = 0;
    for block in blocks("toml") {
        if block.starts_with("[[models]]") {
            kinds.push(builder(&block).unwrap());
        } else if block.starts_with("trainer = ") {
            for line in block.lines() {
                let model = format!("[[models]]\nmodel = 'er'\ndata = 'data'\n{line}\n");
                kinds.push(builder(&model).unwrap_or_else(|error| panic!("{line}: {error}")));
            }
        } else if block.contains("secret_file") {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("fleet.toml");
            std::fs::write(&path, &block).unwrap();
            let config = Config::load(Some(&path), None).unwrap();
            assert_eq!(config.mlflow.unwrap().models.len(), 2);
            of_the_server += 1;
        } else {
            assert!(block.starts_with("[mlflow]"), "nobody reads this: {block}");
            builder(&format!("{block}\n[[models]]\nmodel = 'er'\ndata = 'data'\ncommand = ['train']\n"))
                .unwrap();
        }
    }
    assert!(kinds.iter().all(|config| config.models[0].trainer.is_some()));
    assert_eq!((kinds.len(), of_the_server), (7, 1));
}

#[test]
fn what_goes_over_the_wire_is_json() {
    let block: Value = serde_json::from_str(&blocks("json")[0]).unwrap();
    assert!(block["result"]["url"].is_string() && block["result"]["token"].is_string());
    // And what stands in the middle of a sentence; `…` means more of the same.
    let text = text().replace(", …]", "]");
    let bodies: Vec<Value> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::trim)
        .filter(|code| code.starts_with("{\""))
        .map(|code| serde_json::from_str(code).unwrap_or_else(|error| panic!("{code}: {error}")))
        .collect();
    let handed: Vec<&Value> = bodies.iter().filter(|body| body["status"] == "succeeded").collect();
    let file = &handed[0]["files"][0];
    file["path"].as_str().unwrap().parse::<OutputPath>().unwrap();
    assert!(file["bytes"].is_u64());
    assert!(
        bodies.iter().any(|body| body["status"] == "failed")
            && bodies.iter().any(|body| body["log"].is_array())
    );
}
