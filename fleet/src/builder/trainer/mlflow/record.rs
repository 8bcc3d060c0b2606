//! What we train, told to `MLflow`: a run with its parameters, figures and dataset, and a registered version of what was
//! published. `MLflow` is a book that people read; a line that cannot be written there stops nothing.

use std::path::{Path, PathBuf};

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::http::Fault;
use super::{Server, tags};

/// Metrics of one run.
const METRICS_MAX: usize = 200;

/// `[mlflow]` in builder.toml.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Book {
    pub url: String,
    #[serde(default = "default_experiment")]
    pub experiment: String,
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

fn default_experiment() -> String {
    "muster".to_owned()
}

/// One run's page.
#[derive(Debug)]
pub struct Record {
    server: Server,
    experiment: String,
    run: String,
}

/// What was published, and why.
#[derive(Clone, Copy, Debug)]
pub struct Published<'a> {
    pub model: &'a str,
    pub trigger: &'a str,
    /// Digest of the bundle's manifest.
    pub bundle: &'a str,
    /// The folder of the bundle.
    pub folder: &'a Path,
}

impl Record {
    /// Begins a run's page; asked for the same run again, it goes on in the one that is there.
    pub async fn begin(
        book: &Book,
        run: &str,
        trigger: &str,
        model: &str,
        now_ms: i64,
    ) -> Result<Self, Fault> {
        let server = Server::new(&book.url, book.token_file.clone())?;
        let experiment = experiment(&server, &book.experiment).await?;
        let filter = format!("tags.`muster.run_id` = '{run}'");
        let found = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let found = server.post(&["runs", "search"], &found).await?;
        let known = found["runs"][0]["info"]["run_id"].as_str().map(str::to_owned);
        let id = if let Some(id) = known {
            id
        } else {
            let pairs = [("muster.run_id", run), ("muster.trigger_id", trigger), ("muster.model", model)];
            let body = json!({ "experiment_id": experiment, "run_name": run, "start_time": now_ms,
                "tags": tags(pairs) });
            let made = server.post(&["runs", "create"], &body).await?;
            made["run"]["info"]["run_id"].as_str().map(str::to_owned).unwrap_or_default()
        };
        Ok(Self { server, experiment, run: id })
    }

    /// Datasets by digest, figures by name; both from the bundle's own manifest.
    pub async fn figures(&self, manifest: &Value, now_ms: i64) -> Result<(), Fault> {
        let datasets = manifest.pointer("/lineage/datasets").and_then(Value::as_array);
        let inputs: Vec<Value> = datasets
            .into_iter()
            .flatten()
            .map(|dataset| {
                let digest: String =
                    dataset["sha256"].as_str().unwrap_or_default().chars().take(36).collect();
                json!({ "dataset": { "name": dataset["name"], "digest": digest, "source_type": "muster",
                    "source": dataset.to_string() } })
            })
            .collect();
        if !inputs.is_empty() {
            let body = json!({ "run_id": self.run, "datasets": inputs });
            self.server.post(&["runs", "log-inputs"], &body).await?;
        }
        let mut metrics = Vec::new();
        flatten("", manifest.get("evaluation").unwrap_or(&Value::Null), &mut metrics);
        metrics.truncate(METRICS_MAX);
        let metric = |(key, value): (String, f64)| json!({ "key": key, "value": value, "timestamp": now_ms, "step": 0 });
        let metrics: Vec<Value> = metrics.into_iter().map(metric).collect();
        let body = json!({ "run_id": self.run, "metrics": metrics, "params": [], "tags": [] });
        self.server.post(&["runs", "log-batch"], &body).await.map(drop)
    }

    /// The bundle's manifest and model as artifacts, and a registered version with the alias `challenger`.
    pub async fn publish(&self, published: Published<'_>, now_ms: i64) -> Result<String, Fault> {
        for file in ["manifest.json", "model.onnx"] {
            let path = published.folder.join(file);
            if !path.is_file() {
                continue;
            }
            let opened =
                tokio::fs::File::open(&path).await.map_err(|error| Fault::lasting(error.to_string()))?;
            let body = reqwest::Body::wrap_stream(tokio_util::io::ReaderStream::new(opened));
            let path = [&self.experiment, &self.run, "artifacts", "bundle", file];
            let request = self.server.artifacts(Method::PUT, &path)?.body(body);
            let reply = self.server.tool.send(request).await?;
            if !reply.status.is_success() {
                return Err(reply.fault("MLflow's artifacts"));
            }
        }
        let name = published.model;
        // A registered model of that name is there after the first time: MLflow says RESOURCE_ALREADY_EXISTS.
        let made = self
            .server
            .request(Method::POST, &["registered-models", "create"])?
            .json(&json!({ "name": name }));
        let made = self.server.tool.send(made).await?;
        let exists = String::from_utf8_lossy(&made.body).contains("RESOURCE_ALREADY_EXISTS");
        if !made.status.is_success() && !exists {
            return Err(made.fault("MLflow's registry"));
        }
        let version = self.version(published).await?;
        let body = json!({ "name": name, "alias": "challenger", "version": version });
        self.server.post(&["registered-models", "alias"], &body).await?;
        self.end("FINISHED", now_ms).await?;
        Ok(version)
    }

    /// Versions are not made twice: the one of this bundle is looked for first.
    async fn version(&self, published: Published<'_>) -> Result<String, Fault> {
        let Published { model: name, trigger, bundle, .. } = published;
        let filter = format!("name='{}'", name.replace('\'', ""));
        let found = self
            .server
            .get(&["model-versions", "search"], &[("filter", &filter), ("max_results", "200")])
            .await?;
        let is_ours = |version: &&Value| {
            let tags = version["tags"].as_array();
            tags.into_iter()
                .flatten()
                .any(|tag| tag["key"] == "muster.bundle_digest" && tag["value"] == bundle)
        };
        let version = |value: &Value| value["version"].as_str().map(str::to_owned);
        if let Some(known) = found["model_versions"].as_array().into_iter().flatten().find(is_ours) {
            return version(known).ok_or_else(|| Fault::lasting("MLflow's version has no number"));
        }
        let source = format!("mlflow-artifacts:/{}/{}/artifacts/bundle", self.experiment, self.run);
        let pairs = [("muster.bundle_digest", bundle), ("muster.trigger_id", trigger)];
        let body = json!({ "name": name, "source": source, "run_id": self.run, "tags": tags(pairs) });
        let made = self.server.post(&["model-versions", "create"], &body).await?;
        version(&made["model_version"]).ok_or_else(|| Fault::lasting("MLflow gave no version"))
    }

    pub async fn end(&self, status: &str, now_ms: i64) -> Result<(), Fault> {
        let body = json!({ "run_id": self.run, "status": status, "end_time": now_ms });
        self.server.post(&["runs", "update"], &body).await.map(drop)
    }
}

async fn experiment(server: &Server, name: &str) -> Result<String, Fault> {
    let id = |value: &Value| value.as_str().map(str::to_owned);
    let query = [("experiment_name", name)];
    let found =
        server.tool.send(server.request(Method::GET, &["experiments", "get-by-name"])?.query(&query)).await?;
    let known = if found.status == reqwest::StatusCode::NOT_FOUND {
        id(&server.post(&["experiments", "create"], &json!({ "name": name })).await?["experiment_id"])
    } else {
        id(&found.json("MLflow")?["experiment"]["experiment_id"])
    };
    known.ok_or_else(|| Fault::lasting("MLflow gave no experiment"))
}

/// Numbers of a document by their path: `sets.0.challenger`.
fn flatten(path: &str, value: &Value, out: &mut Vec<(String, f64)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Number(number) => out.extend(number.as_f64().map(|number| (path.to_owned(), number))),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| flatten(&below(name), value, out)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, value)| flatten(&below(&i.to_string()), value, out));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
