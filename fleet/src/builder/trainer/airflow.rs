//! Airflow 3: a DAG run named after the attempt, by the REST API v2.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::http::{Fault, Reply, Tool, secret};
use super::remote::{Order, Runner, Standing};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
    pub dag: String,
    pub user: String,
    pub password_file: PathBuf,
}

pub(super) struct Airflow {
    tool: Tool,
    config: Config,
    /// Of this session; a new one is fetched when it has run out.
    token: Mutex<Option<String>>,
}

impl Airflow {
    pub(super) fn new(config: &Config) -> Result<Self, Fault> {
        Ok(Self { tool: Tool::new(&config.url, None)?, config: config.clone(), token: Mutex::new(None) })
    }

    async fn log_in(&self) -> Result<String, Fault> {
        let password = secret(&self.config.password_file)?;
        let body = json!({ "username": self.config.user, "password": password.as_str() });
        let request = self.tool.request(Method::POST, &["auth", "token"]).json(&body);
        let answer = self.tool.send(request).await?.json("Airflow's log-in")?;
        let token = answer["access_token"].as_str().ok_or_else(|| Fault::lasting("Airflow gave no token"))?;
        Ok(token.to_owned())
    }

    async fn ask(&self, method: Method, run: Option<&str>, body: Option<&Value>) -> Result<Reply, Fault> {
        let mut segments = vec!["api", "v2", "dags", &self.config.dag, "dagRuns"];
        segments.extend(run);
        let mut token = self.token.lock().await;
        for is_fresh in [false, true] {
            let known = match token.take_if(|_| !is_fresh) {
                Some(known) => known,
                None => self.log_in().await?,
            };
            let mut request = self.tool.request(method.clone(), &segments).bearer_auth(&known);
            if let Some(body) = body {
                request = request.json(body);
            }
            let reply = self.tool.send(request).await?;
            if reply.status != StatusCode::UNAUTHORIZED || is_fresh {
                *token = Some(known);
                return Ok(reply);
            }
        }
        Err(Fault::lasting("Airflow does not take its own token"))
    }
}

impl Runner for Airflow {
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let body =
                json!({ "dag_run_id": order.id, "logical_date": null, "conf": { "muster": order.document } });
            let reply = self.ask(Method::POST, None, Some(&body)).await?;
            // Asked for before: that one is ours.
            if reply.status == StatusCode::CONFLICT { Ok(()) } else { reply.json("Airflow").map(drop) }
        })
    }

    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Standing, Fault>> {
        Box::pin(async move {
            let run = self.ask(Method::GET, Some(&order.id), None).await?.json("Airflow")?;
            Ok(match run["state"].as_str().unwrap_or_default() {
                "queued" => Standing::Waiting,
                "success" => Standing::Succeeded,
                "failed" => Standing::Failed("the DAG run failed; its tasks' logs are in Airflow".to_owned()),
                _ => Standing::Running,
            })
        })
    }

    fn cancel<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            // Airflow has no other word for "stop it".
            let body = json!({ "state": "failed" });
            let reply = self.ask(Method::PATCH, Some(&order.id), Some(&body)).await?;
            if reply.status == StatusCode::NOT_FOUND { Ok(()) } else { reply.json("Airflow").map(drop) }
        })
    }
}
