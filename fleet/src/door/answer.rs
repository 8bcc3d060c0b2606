//! The three things that a box may ask for.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router, middleware};
use futures_util::StreamExt as _;
use muster_protocol::enrol::{
    CertificateRequest, ENROL_PATH, EnrolError, EnrolRequest, EnrolState, Enrolled, EnrolmentToken,
    Fingerprint, REKEY_PATH, RENEW_PATH,
};
use muster_protocol::limits::CSR_BYTES_MAX;
use tower_http::catch_panic::CatchPanicLayer;

use super::Shown;
use super::problem::{Code, Problem};
use super::throttle::Throttle;
use crate::clock::TrustClock;
use crate::pki::csr;
use crate::registrar::{Asked, Registrar};

/// From a request's head to its answer, its body included.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// A CSR and the little that stands around it.
const BODY_BYTES_MAX: usize = CSR_BYTES_MAX * 2;
/// How much of what is too long is read before the connection is given up.
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;

#[derive(Clone, Debug)]
struct Desk {
    registrar: Arc<Registrar>,
    throttle: Arc<Mutex<Throttle>>,
    clock: TrustClock,
}

pub(super) fn router(registrar: Arc<Registrar>, clock: TrustClock) -> Router {
    let desk = Desk { registrar, throttle: Arc::new(Mutex::new(Throttle::default())), clock };
    Router::new()
        .route(ENROL_PATH, post(enrol))
        .route(RENEW_PATH, post(renew))
        .route(REKEY_PATH, post(rekey))
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "only POST is taken here")
        })
        .fallback(|| async {
            Problem::new(Code::NoRoute, "only /v1/enrol, /v1/renew and /v1/rekey are behind this door")
        })
        .layer(middleware::from_fn(within))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(desk)
}

/// The token is looked up before anything is computed: a stranger costs one look into the database.
async fn enrol(
    State(desk): State<Desk>,
    Bearer(token): Bearer,
    Body(body): Body,
) -> Result<Response, Problem> {
    let request = EnrolRequest::from_json(&body)?;
    desk.registrar.knows(&token).await?;
    let key = csr(&request.csr)?;
    let asked = Asked { name: &request.name, facts: &request.facts };
    let enrolled = desk.registrar.enrol(&token, asked, &key).await?;
    tracing::info!(device.id = %enrolled.device, key = %enrolled.fingerprint, "a box enrols");
    Ok(answer(enrolled))
}

async fn renew(State(desk): State<Desk>, Body(body): Body) -> Result<Response, Problem> {
    let request = CertificateRequest::from_json(&body)?;
    let key = csr(&request.csr)?;
    desk.registrar.may_renew(&key).await?;
    // Only now: a stranger must not use up what members may have.
    desk.throttle(key.fingerprint)?;
    let enrolled = desk.registrar.renew(&key).await?;
    tracing::info!(device.id = %enrolled.device, "a box renews its certificate");
    Ok(answer(enrolled))
}

async fn rekey(
    State(desk): State<Desk>,
    shown: Option<Extension<Shown>>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let request = CertificateRequest::from_json(&body)?;
    let Some(Extension(shown)) = shown else {
        let detail = "a new key is taken only from a box that shows the certificate of its old one";
        return Err(
            Problem::new(Code::CertificateMissing, detail).next("connect with the client certificate")
        );
    };
    desk.throttle(shown.key.fingerprint)?;
    let key = csr(&request.csr)?;
    let enrolled = desk.registrar.rekey(&shown.device, &shown.key, &key).await?;
    tracing::info!(device.id = %enrolled.device, key = %enrolled.fingerprint, "a box changes its key");
    Ok(answer(enrolled))
}

impl Desk {
    fn throttle(&self, key: Fingerprint) -> Result<(), Problem> {
        let mut throttle = self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.take(key, self.clock.now()).map_err(|wait| {
            Problem::new(
                Code::TooManyRequests,
                format!("it asked too often; again in {} s", wait.as_secs().max(1)),
            )
            .retry_after(wait)
        })
    }
}

fn answer(enrolled: Enrolled) -> Response {
    let status = match enrolled.state {
        EnrolState::Pending => StatusCode::ACCEPTED,
        EnrolState::Active { .. } => StatusCode::OK,
    };
    let mut response = (status, Json(enrolled)).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `Authorization: Bearer fle_…`.
struct Bearer(EnrolmentToken);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let missing = || Problem::new(Code::TokenMissing, "the request carries no enrolment token");
        let value = parts.headers.get(header::AUTHORIZATION).ok_or_else(missing)?;
        let text = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(missing)?;
        text.trim()
            .parse()
            .map(Self)
            .map_err(|error: EnrolError| Problem::new(Code::TokenUnknown, error.to_string()))
    }
}

/// A bounded body. What is too long is read on for a while and thrown away: whoever sent it is listening for the answer
/// only when everything is sent.
struct Body(Vec<u8>);

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let mut chunks = request.into_body().into_data_stream();
        let (mut body, mut length) = (Vec::new(), 0);
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::new(Code::BadRequest, "the body could not be read"))?;
            length += chunk.len();
            if length <= BODY_BYTES_MAX {
                body.extend_from_slice(&chunk);
            } else if length > DISCARDED_BYTES_MAX {
                break;
            }
        }
        if length > BODY_BYTES_MAX {
            return Err(Problem::new(
                Code::TooLarge,
                format!("a request here has at most {BODY_BYTES_MAX} bytes"),
            ));
        }
        Ok(Self(body))
    }
}

async fn within(request: Request, next: Next) -> Response {
    tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await.unwrap_or_else(|_| {
        Problem::new(Code::TimedOut, format!("the request took longer than {} s", ANSWER_WITHIN.as_secs()))
            .into_response()
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the layer hands over what it caught")]
fn panicked(caught: Box<dyn Any + Send + 'static>) -> Response {
    let said = caught.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| caught.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::internal(&std::io::Error::other(format!("a handler of the door panicked: {said}")))
        .into_response()
}
