//! What `uvs show` and `uvs top` say of services, real servers and connections: each column once, with its
//! title and where its value is. Which of them a view has, and in which order, stands below them.

mod column;
pub(super) mod connections;
pub(super) mod servers;
pub(super) mod services;
mod traffic;

pub(super) use column::{Column, Show, Value, heads, table, values};
pub(super) use traffic::Rates;
