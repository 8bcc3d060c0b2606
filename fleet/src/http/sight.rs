//! Whose things a caller may have to do with, as the rules of the route say.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::caller::unproven;
use super::problem::Problem;
pub(crate) use crate::sight::Sight;

impl<S: Send + Sync> FromRequestParts<S> for Sight {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| unproven(false))
    }
}
