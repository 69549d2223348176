//! `libuvs_ipvs.so`: preloaded into ipvsadm, keepalived or another program, it carries what that one asks of IPVS
//! in the kernel to the daemon `uvs run`, and nothing else.
//!
//! A generic netlink socket is the kernel's until the first message that is for the family "IPVS"; then a
//! connection to the daemon takes its place, under the same descriptor. Socket options of IPVS and its files
//! under /proc/net are asked for over connections of their own. What is said is the daemon's business: no message
//! is made or understood here, but for its addressee.

mod calls;
mod carry;
mod descriptors;
mod next;
