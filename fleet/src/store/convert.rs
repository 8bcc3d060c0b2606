//! Between columns and domain types: parse at the edge, say which column was wrong.

use std::fmt::Display;
use std::str::FromStr;

use muster_protocol::time::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Result, StoreError};

pub(super) fn parse<T>(what: &'static str, text: &str) -> Result<T>
where
    T: FromStr,
    T::Err: Display,
{
    text.parse().map_err(|error| StoreError::corrupt(what, &error))
}

pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

/// Counts are never negative; columns are signed.
pub(super) fn count(column: i64) -> u64 {
    u64::try_from(column).unwrap_or(0)
}

pub(super) fn column(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn to_json(what: &'static str, value: &(impl Serialize + Sync)) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Encode { what, source: Box::new(source) })
}

pub(super) fn from_json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| StoreError::corrupt(what, &error))
}
