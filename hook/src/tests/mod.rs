//! The programs in the kernel that is there: loaded, attached, and run on single frames. They need root.

mod direct;
mod events;
mod load;
mod pair;
mod pins;
mod race;
mod rules;
mod same;
mod succession;
mod up;
mod v6;
