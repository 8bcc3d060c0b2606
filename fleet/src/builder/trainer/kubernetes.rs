//! A Kubernetes Job, made of the owner's own template: we give it its name, labels, and the request in its environment.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Fault, Reply, Tool, secret};
use super::remote::{Order, Runner, Standing};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of the API server.
    pub url: String,
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// A `batch/v1` Job as JSON; its containers get `MUSTER_REQUEST_JSON`.
    pub job: PathBuf,
    /// Read anew for each request: tokens of service accounts change.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

fn default_namespace() -> String {
    "default".to_owned()
}

pub(super) struct Kubernetes {
    tool: Tool,
    config: Config,
    template: Value,
}

impl Kubernetes {
    pub(super) fn new(config: &Config) -> Result<Self, Fault> {
        let wrong =
            |what: &dyn std::fmt::Display| Fault::lasting(format!("{}: {what}", config.job.display()));
        let text = std::fs::read(&config.job).map_err(|error| wrong(&error))?;
        let template: Value = serde_json::from_slice(&text).map_err(|error| wrong(&error))?;
        let has_containers = template.pointer("/spec/template/spec/containers/0").is_some();
        if template["kind"] != "Job" || !has_containers {
            return Err(wrong(&"is no batch/v1 Job with a container"));
        }
        Ok(Self {
            tool: Tool::new(&config.url, config.ca_file.as_deref())?,
            config: config.clone(),
            template,
        })
    }

    async fn ask(&self, method: Method, name: Option<&str>, body: Option<&Value>) -> Result<Reply, Fault> {
        let mut segments = vec!["apis", "batch", "v1", "namespaces", &self.config.namespace, "jobs"];
        segments.extend(name);
        let mut request = self.tool.request(method, &segments);
        if let Some(file) = &self.config.token_file {
            request = request.bearer_auth(secret(file)?.as_str());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.tool.send(request).await
    }

    fn job(&self, order: &Order) -> Value {
        let mut job = self.template.clone();
        job["apiVersion"] = json!("batch/v1");
        job["metadata"]["name"] = json!(order.id);
        for (label, value) in [("run", order.run.as_str()), ("model", &order.model)] {
            job["metadata"]["labels"][format!("muster/{label}")] = json!(value);
        }
        // We do the repeating: a second pod would hand back by the same token.
        job["spec"]["backoffLimit"] = json!(0);
        let containers = job.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if !container["env"].is_array() {
                container["env"] = json!([]);
            }
            if let Some(env) = container["env"].as_array_mut() {
                env.push(json!({ "name": "MUSTER_REQUEST_JSON", "value": order.document.to_string() }));
            }
        }
        job
    }
}

impl Runner for Kubernetes {
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let reply = self.ask(Method::POST, None, Some(&self.job(order))).await?;
            // AlreadyExists: asked for before.
            if reply.status == StatusCode::CONFLICT { Ok(()) } else { reply.json("Kubernetes").map(drop) }
        })
    }

    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Standing, Fault>> {
        Box::pin(async move {
            let reply = self.ask(Method::GET, Some(&order.id), None).await?;
            if reply.status == StatusCode::NOT_FOUND {
                return Ok(Standing::Failed("somebody deleted the job".to_owned()));
            }
            let job = reply.json("Kubernetes")?;
            let conditions = job.pointer("/status/conditions").and_then(Value::as_array);
            for condition in
                conditions.into_iter().flatten().filter(|condition| condition["status"] == "True")
            {
                match condition["type"].as_str() {
                    Some("Complete") => return Ok(Standing::Succeeded),
                    Some("Failed") => {
                        let word = |field: &str| condition[field].as_str().unwrap_or_default();
                        return Ok(Standing::Failed(format!("{}: {}", word("reason"), word("message"))));
                    }
                    _ => {}
                }
            }
            let is_active = job.pointer("/status/active").and_then(Value::as_u64).is_some_and(|n| n > 0);
            Ok(if is_active { Standing::Running } else { Standing::Waiting })
        })
    }

    fn cancel<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            // Without a policy the API leaves the pods of a Job behind.
            let body = json!({ "propagationPolicy": "Background" });
            let reply = self.ask(Method::DELETE, Some(&order.id), Some(&body)).await?;
            if reply.status == StatusCode::NOT_FOUND { Ok(()) } else { reply.json("Kubernetes").map(drop) }
        })
    }
}
