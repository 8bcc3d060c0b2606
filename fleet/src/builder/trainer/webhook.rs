//! Any service that takes a `CloudEvent` (cloudevents.io, 1.0, structured mode): signed ([`crate::webhook`]), and expected to
//! hand back its result.

use std::path::PathBuf;

use aws_lc_rs::hmac;
use futures_util::future::BoxFuture;
use muster_protocol::time::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{Fault, Tool, secret};
use super::remote::{Order, Runner, Standing};
use crate::clock::TrustClock;
use crate::webhook::{key, sign};

const REQUESTED: &str = "io.muster.retrain.requested.v1";
const CANCELLED: &str = "io.muster.retrain.cancelled.v1";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub url: String,
    /// `whsec_` and base64, or any text of 16 characters and more.
    pub secret_file: PathBuf,
}

pub(super) struct Webhook {
    tool: Tool,
    key: hmac::Key,
}

impl Webhook {
    pub(super) fn new(config: &Config) -> Result<Self, Fault> {
        let key = key(&secret(&config.secret_file)?)
            .map_err(|what| Fault::lasting(format!("{}: {what}", config.secret_file.display())))?;
        Ok(Self { tool: Tool::new(&config.url, None)?, key })
    }

    async fn tell(&self, kind: &str, order: &Order, data: &Value) -> Result<(), Fault> {
        let now = TrustClock.now();
        let body = event(kind, order, data, now).to_string();
        let seconds = now.as_millis() / 1000;
        let request = self
            .tool
            .request(Method::POST, &[])
            .header("content-type", "application/cloudevents+json")
            .header("webhook-id", &order.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", sign(&self.key, &order.id, seconds, body.as_bytes()))
            .body(body);
        let reply = self.tool.send(request).await?;
        if reply.status.is_success() { Ok(()) } else { Err(reply.fault("the webhook")) }
    }
}

impl Runner for Webhook {
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(self.tell(REQUESTED, order, &order.document))
    }

    /// A webhook says nothing by itself: the result comes, or time ends it.
    fn look<'a>(&'a self, _order: &'a Order) -> BoxFuture<'a, Result<Standing, Fault>> {
        Box::pin(async { Ok(Standing::Running) })
    }

    fn cancel<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<(), Fault>> {
        Box::pin(async move { self.tell(CANCELLED, order, &json!({ "run": order.run })).await })
    }
}

fn event(kind: &str, order: &Order, data: &Value, now: Timestamp) -> Value {
    json!({
        "specversion": "1.0",
        "type": kind,
        "source": "/muster/builder",
        // The same for each repetition of one attempt: whoever knows it has begun already.
        "id": if order.id.ends_with("-1") { order.trigger.clone() } else { format!("{}.{}", order.trigger, order.id) },
        "subject": order.run,
        "time": now,
        "datacontenttype": "application/json",
        "data": data,
    })
}
