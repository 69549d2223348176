//! The daemon behind `uvs run`.
pub(crate) mod rates;
