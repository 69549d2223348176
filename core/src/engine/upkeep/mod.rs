//! What is done as time goes by, beside the frames.

pub(super) mod defence;
pub(super) mod drain;
pub(super) mod sweep;
