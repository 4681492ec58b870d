//! Column values to types and back. What does not fit is damage, and says in which table.

use super::{Digest, StoreError};
use data_encoding::HEXLOWER;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use std::str::FromStr;

pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}

pub(super) fn damaged(table: &'static str, detail: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged { table, detail: detail.to_string() }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

pub(super) fn column<T>(table: &'static str, value: Result<T, sqlx::Error>) -> Result<T, StoreError> {
    value.map_err(|error| damaged(table, error))
}

/// An identifier, or anything else whose text form is stored.
pub(super) fn id<T: FromStr<Err: std::fmt::Display>>(
    table: &'static str,
    value: Result<String, sqlx::Error>,
) -> Result<T, StoreError> {
    column(table, value)?.parse().map_err(|error| damaged(table, error))
}

pub(super) fn optional_id<T: FromStr<Err: std::fmt::Display>>(
    table: &'static str,
    value: Result<Option<String>, sqlx::Error>,
) -> Result<Option<T>, StoreError> {
    column(table, value)?.map(|text| text.parse().map_err(|error| damaged(table, error))).transpose()
}

pub(super) fn json<T: DeserializeOwned>(
    table: &'static str,
    value: Result<String, sqlx::Error>,
) -> Result<T, StoreError> {
    serde_json::from_str(&column(table, value)?).map_err(|error| damaged(table, error))
}

pub(super) fn number<T: TryFrom<i64, Error: std::fmt::Display>>(
    table: &'static str,
    value: Result<i64, sqlx::Error>,
) -> Result<T, StoreError> {
    column(table, value)?.try_into().map_err(|error| damaged(table, error))
}

pub(super) fn flag(table: &'static str, value: Result<i64, sqlx::Error>) -> Result<bool, StoreError> {
    Ok(column(table, value)? != 0)
}

pub(super) fn micros(table: &'static str, value: Result<i64, sqlx::Error>) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(column(table, value)?).map_err(|error| damaged(table, error))
}

pub(super) fn digest(table: &'static str, value: Result<Vec<u8>, sqlx::Error>) -> Result<Digest, StoreError> {
    column(table, value)?.try_into().map_err(|_| damaged(table, "a digest has 32 bytes"))
}

pub(super) fn hex_digest(
    table: &'static str,
    value: Result<String, sqlx::Error>,
) -> Result<Digest, StoreError> {
    let bytes = HEXLOWER.decode(column(table, value)?.as_bytes()).map_err(|error| damaged(table, error))?;
    bytes.try_into().map_err(|_| damaged(table, "a digest has 32 bytes"))
}
