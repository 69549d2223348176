//! The two interfaces by which programs control IPVS in the kernel, generic netlink and socket options, as bytes:
//! requests in, answers out; and the files by which they are shown under /proc/net. No socket is opened here.
//!
//! Written after net/netfilter/ipvs/ip_vs_ctl.c and linux/ip_vs.h, and held to what Debian's ipvsadm 1.31 and
//! keepalived 2.2.7 were seen to send.
#![forbid(unsafe_code)]

pub mod attribute;
pub mod conversation;
mod daemon;
pub mod director;
pub mod errno;
pub mod family;
pub mod files;
pub mod message;
pub mod server;
pub mod service;
pub mod session;
pub mod sockopt;
mod stats;
mod structure;
