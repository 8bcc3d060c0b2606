//! Jenkins: a parameterised build. With an API token no crumb is asked for; with a password there is one, and it is good
//! only in the cookie session that fetched it.

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use reqwest::{Method, RequestBuilder, StatusCode, Url, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::http::{Fault, Reply, Tool, secret};
use super::remote::{Order, Runner, Standing};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
    /// `folder/name`; it takes the parameters `MUSTER_JOB` and `MUSTER_REQUEST`.
    pub job: String,
    pub user: String,
    /// An API token, as Jenkins recommends.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

/// Where the build is, as far as Jenkins said.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Queue(u64),
    Build(u64),
}

pub(super) struct Jenkins {
    tool: Tool,
    config: Config,
    place: Mutex<Option<Place>>,
}

impl Jenkins {
    pub(super) fn new(config: &Config) -> Result<Self, Fault> {
        if config.token_file.is_some() == config.password_file.is_some() {
            return Err(Fault::lasting("jenkins: give either a token_file or a password_file"));
        }
        Ok(Self { tool: Tool::new(&config.url, None)?, config: config.clone(), place: Mutex::new(None) })
    }

    /// `folder/name` is `/job/folder/job/name`.
    fn job(&self) -> Vec<&str> {
        self.config.job.split('/').flat_map(|name| ["job", name]).collect()
    }

    fn as_user(&self, request: RequestBuilder) -> Result<RequestBuilder, Fault> {
        let file = self.config.token_file.as_ref().or(self.config.password_file.as_ref());
        let file = file.ok_or_else(|| Fault::lasting("jenkins: no credentials"))?;
        Ok(request.basic_auth(&self.config.user, Some(secret(file)?.as_str())))
    }

    async fn get(&self, segments: &[&str], tree: &str) -> Result<Reply, Fault> {
        let request = self.tool.request(Method::GET, &[segments, &["api", "json"]].concat());
        let request = if tree.is_empty() { request } else { request.query(&[("tree", tree)]) };
        self.tool.send(self.as_user(request)?).await
    }

    async fn post(&self, segments: &[&str], form: &[(&str, &str)]) -> Result<Reply, Fault> {
        let mut request = self.as_user(self.tool.request(Method::POST, segments))?;
        if self.config.password_file.is_some() {
            let crumb = self
                .tool
                .send(self.as_user(self.tool.request(Method::GET, &["crumbIssuer", "api", "json"]))?);
            let crumb = crumb.await?;
            let said = crumb.json("Jenkins' crumb")?;
            let (Some(field), Some(value)) = (said["crumbRequestField"].as_str(), said["crumb"].as_str())
            else {
                return Err(Fault::lasting("Jenkins gave no crumb"));
            };
            request = request.header(field, value);
            let cookies: Vec<&str> = crumb
                .headers
                .get_all(header::SET_COOKIE)
                .iter()
                .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
                .collect();
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        self.tool
            .send(
                request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(encoded(form)),
            )
            .await
    }

    /// A build or a queued one that holds our job's name: asked for before, by us.
    async fn find(&self, order: &Order) -> Result<Option<Place>, Fault> {
        let is_ours = |item: &Value| {
            let actions = item["actions"].as_array().into_iter().flatten();
            let mut parameters =
                actions.flat_map(|action| action["parameters"].as_array().into_iter().flatten());
            parameters.any(|p| p["name"] == "MUSTER_JOB" && p["value"] == order.id.as_str())
        };
        let number = |item: &Value, field: &str| item[field].as_u64();
        let tree = "builds[number,actions[parameters[name,value]]]{0,100}";
        let builds = self.get(&self.job(), tree).await?.json("Jenkins")?;
        if let Some(build) = builds["builds"].as_array().into_iter().flatten().find(|build| is_ours(build)) {
            return Ok(number(build, "number").map(Place::Build));
        }
        let queue =
            self.get(&["queue"], "items[id,actions[parameters[name,value]]]").await?.json("Jenkins")?;
        let queued = queue["items"].as_array().into_iter().flatten().find(|item| is_ours(item));
        Ok(queued.and_then(|item| number(item, "id")).map(Place::Queue))
    }

    async fn submitted(&self, order: &Order) -> Result<(), Fault> {
        let mut place = self.place.lock().await;
        if let Some(found) = self.find(order).await? {
            *place = Some(found);
            return Ok(());
        }
        let request = order.document.to_string();
        let form = [("MUSTER_JOB", order.id.as_str()), ("MUSTER_REQUEST", request.as_str())];
        let reply = self.post(&[self.job(), vec!["buildWithParameters"]].concat(), &form).await?;
        if reply.status != StatusCode::CREATED {
            return Err(reply.fault("Jenkins"));
        }
        // Of the address only the number counts: its host is whatever Jenkins believes to be called.
        let location =
            reply.headers.get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let item = location.trim_end_matches('/').rsplit('/').next().and_then(|number| number.parse().ok());
        *place = item.map(Place::Queue);
        Ok(())
    }

    async fn standing(&self, order: &Order) -> Result<Standing, Fault> {
        let mut place = self.place.lock().await;
        if let Some(Place::Queue(id)) = *place {
            let reply = self.get(&["queue", "item", &id.to_string()], "").await?;
            // Jenkins forgets queue items after some minutes: the build is found by its parameter then.
            let item =
                if reply.status == StatusCode::NOT_FOUND { Value::Null } else { reply.json("Jenkins")? };
            if item["cancelled"] == true {
                return Ok(Standing::Failed("somebody took the build out of Jenkins' queue".to_owned()));
            }
            if let Some(build) = item["executable"]["number"].as_u64() {
                *place = Some(Place::Build(build));
            } else if !item.is_null() {
                return Ok(Standing::Waiting);
            }
        }
        if !matches!(*place, Some(Place::Build(_))) {
            *place = self.find(order).await?;
        }
        let Some(Place::Build(number)) = *place else { return Ok(Standing::Waiting) };
        let build = self.get(&[self.job(), vec![&number.to_string()]].concat(), "result,building").await?;
        let build = build.json("Jenkins")?;
        Ok(match build["result"].as_str() {
            None => Standing::Running,
            Some("SUCCESS") => Standing::Succeeded,
            Some(result) => {
                Standing::Failed(format!("build {number} ended as {result}; its console has the reason"))
            }
        })
    }
}

impl Runner for Jenkins {
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.submitted(order))
    }

    fn look<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Standing, Fault>> {
        Box::pin(self.standing(order))
    }

    fn cancel<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move {
            let reply = match self.find(order).await? {
                None => return Ok(()),
                Some(Place::Queue(id)) => {
                    self.post(&["queue", "cancelItem"], &[("id", &id.to_string())]).await?
                }
                Some(Place::Build(n)) => {
                    self.post(&[self.job(), vec![&n.to_string(), "stop"]].concat(), &[]).await?
                }
            };
            // Jenkins answers an act with a redirect to where its result is shown.
            if reply.status.is_success() || reply.status.is_redirection() {
                Ok(())
            } else {
                Err(reply.fault("Jenkins"))
            }
        })
    }
}

/// A form's body (WHATWG URL, application/x-www-form-urlencoded).
fn encoded(form: &[(&str, &str)]) -> String {
    // The address is only a vessel for its query.
    let Ok(mut url) = Url::parse("http://form/") else { return String::new() };
    url.query_pairs_mut().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}
