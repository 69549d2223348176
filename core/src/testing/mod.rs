//! What tests of this and other crates share; behind the feature `testing`.

pub mod bed;
pub mod conformance;
pub mod exercise;
pub mod hook;
pub mod net;
pub mod packets;
pub mod proxy;
pub mod servers;
