//! The programs in the kernel that is there: loaded, attached, and run on single frames. They need root.

mod load;
mod net;
