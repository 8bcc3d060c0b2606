//! `MLflow`, both ways: a registered version becomes a trainer's output, and what we publish becomes a registered version.
//!
//! `MLflow` is not believed. Artifacts come only by its artifact proxy, with bounds; what it names is checked like any
//! trainer's file, and nothing is ever unpickled. After the gates our own key signs.

mod record;

use std::path::PathBuf;

use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};

pub use record::{Book, Published, Record};

use super::http::{Fault, Tool, secret};
use super::{SHARE, Training};
use crate::builder::job::Failure;
use crate::handback::{BYTES_MAX, FILES_MAX, OutputPath};

/// How deep folders of artifacts are followed.
const DEPTH_MAX: usize = 3;
const PROXY: &str = "mlflow-artifacts:/";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
    /// The registered model.
    pub name: String,
    /// Its version by alias; the newest, if absent.
    #[serde(default)]
    pub alias: Option<String>,
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// The calls that both ways share.
#[derive(Debug)]
struct Server {
    tool: Tool,
    token_file: Option<PathBuf>,
}

impl Server {
    fn new(url: &str, token_file: Option<PathBuf>) -> Result<Self, Fault> {
        Ok(Self { tool: Tool::new(url, None)?, token_file })
    }

    fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder, Fault> {
        Ok(match &self.token_file {
            Some(file) => request.bearer_auth(secret(file)?.as_str()),
            None => request,
        })
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Fault> {
        self.signed(self.tool.request(method, &[&["api", "2.0", "mlflow"], path].concat()))
    }

    fn artifacts(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, Fault> {
        self.signed(
            self.tool.request(method, &[&["api", "2.0", "mlflow-artifacts", "artifacts"], path].concat()),
        )
    }

    async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Fault> {
        self.tool.send(self.request(Method::GET, path)?.query(query)).await?.json("MLflow")
    }

    async fn post(&self, path: &[&str], body: &Value) -> Result<Value, Fault> {
        self.tool.send(self.request(Method::POST, path)?.json(body)).await?.json("MLflow")
    }
}

/// Fetches the registered version into `out/`.
pub(super) async fn fetch(training: &Training<'_>, config: &Config) -> Result<(), Failure> {
    let work = async {
        let server = Server::new(&config.url, config.token_file.clone())?;
        let asked = training.request.pointer("/trigger/registered").unwrap_or(&Value::Null);
        let version = version(&server, config, asked).await?;
        training.feed.line(&format!("MLflow: version {version} of {}", config.name));
        let query = [("name", config.name.as_str()), ("version", version.as_str())];
        let said = server.get(&["model-versions", "get-download-uri"], &query).await?;
        let uri = said["artifact_uri"].as_str().unwrap_or_default();
        let root = root(uri)?;
        let files = list(&server, &root).await?;
        download(training, &server, &root, &files).await
    };
    tokio::select! {
        done = work => done.map_err(Failure::from),
        () = tokio::time::sleep(std::time::Duration::from_secs(training.model.timeout_s)) => {
            Err(Failure::new("trainer_timeout", format!("MLflow took longer than {} s", training.model.timeout_s)))
        }
        () = training.stop.cancelled() => Err(Failure::new("cancelled", "stopped while fetching from MLflow")),
    }
}

async fn version(server: &Server, config: &Config, asked: &Value) -> Result<String, Fault> {
    // The version that the registry told the fleet of, if that is why we are here: a newer one asks for itself.
    if asked["name"] == config.name.as_str()
        && let Some(version) = asked["version"].as_str()
    {
        return Ok(version.to_owned());
    }
    let said = if let Some(alias) = &config.alias {
        let query = [("name", config.name.as_str()), ("alias", alias.as_str())];
        server.get(&["registered-models", "alias"], &query).await?.pointer("/model_version/version").cloned()
    } else {
        let filter = format!("name='{}'", config.name.replace('\'', ""));
        let query = [("filter", filter.as_str()), ("order_by", "version_number DESC"), ("max_results", "1")];
        server.get(&["model-versions", "search"], &query).await?.pointer("/model_versions/0/version").cloned()
    };
    said.as_ref()
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Fault::lasting(format!("MLflow has no version of '{}' to fetch", config.name)))
}

/// Where the proxy keeps the artifacts; every other place is refused, whoever names it.
fn root(uri: &str) -> Result<Vec<String>, Fault> {
    let refused = || {
        Fault::lasting(format!(
            "MLflow keeps the artifacts at '{}', which is not its own proxy; start it with --artifacts-destination",
            crate::builder::feed::clean(uri, 120)
        ))
    };
    let path = uri.strip_prefix(PROXY).ok_or_else(refused)?;
    let names: Vec<String> = path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let is_plain = |name: &String| {
        *name != "."
            && *name != ".."
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    if names.is_empty() || names.len() > 8 || !names.iter().all(is_plain) {
        return Err(refused());
    }
    Ok(names)
}

/// All files below, with how long `MLflow` says they are.
async fn list(server: &Server, root: &[String]) -> Result<Vec<(OutputPath, u64)>, Fault> {
    let mut files: Vec<(OutputPath, u64)> = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let below = [root.join("/"), folder.clone()].into_iter().filter(|part| !part.is_empty());
        let path = below.collect::<Vec<_>>().join("/");
        let request = server.artifacts(Method::GET, &[])?.query(&[("path", path.as_str())]);
        let said = server.tool.send(request).await?.json("MLflow's artifacts")?;
        for item in said["files"].as_array().into_iter().flatten() {
            let name = item["path"].as_str().unwrap_or_default();
            let name = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if item["is_dir"] == true {
                // Our own metadata is no output; nor is what lies deeper than any output does.
                if name.split('/').count() <= DEPTH_MAX && !name.contains("..") {
                    folders.push(name);
                }
                continue;
            }
            // MLflow puts files of its own beside a model (MLmodel, conda.yaml, pickles): they are not fetched.
            let Ok(path) = name.parse::<OutputPath>() else {
                if name.contains("..") || name.starts_with('/') {
                    return Err(Fault::lasting(format!("MLflow names a file '{name}'; nothing was fetched")));
                }
                continue;
            };
            files.push((path, item["file_size"].as_u64().unwrap_or(0)));
        }
        if files.len() > FILES_MAX || folders.len() > FILES_MAX {
            return Err(Fault::lasting(format!("the version has more than {FILES_MAX} files")));
        }
    }
    if files.is_empty() {
        return Err(Fault::lasting("the version has no file that a trainer writes; see docs/retraining.md"));
    }
    Ok(files)
}

async fn download(
    training: &Training<'_>,
    server: &Server,
    root: &[String],
    files: &[(OutputPath, u64)],
) -> Result<(), Fault> {
    let disk = |error: std::io::Error| Fault::lasting(format!("the run's folder: {error}"));
    let mut left = BYTES_MAX;
    for (i, (path, said)) in files.iter().enumerate() {
        training
            .feed
            .progress(0.5 * SHARE, &format!("fetching file {} of {} from MLflow", i + 1, files.len()));
        let out = training.dir.out().join(path.as_str());
        if let Some(folder) = out.parent() {
            std::fs::create_dir_all(folder).map_err(disk)?;
        }
        let segments: Vec<&str> = root.iter().map(String::as_str).chain(path.as_str().split('/')).collect();
        let length = server.tool.download(server.artifacts(Method::GET, &segments)?, &out, left).await?;
        if length != *said {
            let what = format!("{}: MLflow said {said} bytes and sent {length}", path.as_str());
            return Err(Fault::lasting(what));
        }
        left -= length;
    }
    Ok(())
}

/// Tags as `MLflow` writes them.
fn tags<const N: usize>(pairs: [(&str, &str); N]) -> Value {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_proxy_is_believed() {
        assert_eq!(
            root("mlflow-artifacts:/1/abc/artifacts/model").unwrap().join("/"),
            "1/abc/artifacts/model"
        );
        for bad in [
            "s3://bucket/model",
            "file:///etc",
            "/etc/passwd",
            "mlflow-artifacts:/",
            "mlflow-artifacts:/1/../../etc",
            "mlflow-artifacts://evil.example/1",
            "mlflow-artifacts:/1/%2e%2e/etc",
            "http://169.254.169.254/x",
        ] {
            let host = root(bad);
            // A host is only a first name here, and a name of the proxy's own.
            assert!(host.is_err() || bad.starts_with("mlflow-artifacts://"), "{bad}");
        }
    }
}
