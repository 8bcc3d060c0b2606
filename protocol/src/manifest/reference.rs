//! The bundle's drift reference: what each monitored stream looked like when the model was trained.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::StreamName;

pub use crate::drift::StreamReference;

pub const REFERENCE_SCHEMA: &str = "muster-reference/1";

/// A bundle's `reference.json`: made from time-ordered training rows by the builder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReferenceFile {
    pub schema: String,
    pub streams: BTreeMap<StreamName, StreamReference>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReferenceFileError {
    #[error("the drift reference is not JSON of the expected shape")]
    Json(#[source] serde_json::Error),
    #[error("the drift reference's schema is '{0}'; this version reads {REFERENCE_SCHEMA}")]
    Schema(String),
    #[error("the drift reference has no stream '{0}', which the manifest monitors")]
    MissingStream(StreamName),
}

impl ReferenceFile {
    /// Reads the file and checks that each of `streams` has its reference.
    pub fn parse<'a>(
        bytes: &[u8],
        streams: impl IntoIterator<Item = &'a StreamName>,
    ) -> Result<Self, ReferenceFileError> {
        let file: Self = serde_json::from_slice(bytes).map_err(ReferenceFileError::Json)?;
        if file.schema != REFERENCE_SCHEMA {
            return Err(ReferenceFileError::Schema(file.schema));
        }
        match streams.into_iter().find(|name| !file.streams.contains_key(*name)) {
            Some(missing) => Err(ReferenceFileError::MissingStream(missing.clone())),
            None => Ok(file),
        }
    }
}
