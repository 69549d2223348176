//! The engine as the benches need it.
