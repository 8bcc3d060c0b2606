//! Every error that an application sees: a status and `{"error": "…"}`.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::engine::InferError;
use crate::oip::Malformed;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) sentence: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into() }
    }

    pub(super) fn bad(sentence: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    pub(super) fn loading() -> Self {
        let sentence = "the fleet's order decides what is loaded on this box; start a rollout instead";
        Self::new(StatusCode::FORBIDDEN, sentence)
    }

    pub(super) fn unknown_model(name: &str) -> Self {
        let name: String = name.chars().take(80).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            format!("there is no model '{name}' on this box; GET or POST /v2/repository/index lists them"),
        )
    }
}

impl From<Malformed> for Refusal {
    fn from(error: Malformed) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<InferError> for Refusal {
    fn from(error: InferError) -> Self {
        match &error {
            InferError::NotFinite { .. } => Self::bad(error.to_string()),
            InferError::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
            InferError::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            InferError::TimedOut => Self::new(StatusCode::GATEWAY_TIMEOUT, error.to_string()),
            InferError::Failed(_) => {
                // The runtime's own words are for the log; they name files and operators.
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the model failed on this input; the agent's log says why",
                )
            }
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, axum::Json(json!({ "error": self.sentence }))).into_response()
    }
}
