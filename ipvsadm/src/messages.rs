//! What ipvsadm says: its version, its help, and the sentence for each refusal of each command.

use uvs_control::protocol::{Change, Errno, Refusal};
use uvs_core::flow::Addr;
use uvs_core::service::{Introduction, ServiceKey};

use super::options::Verb;

/// Answers `-v` and heads the help. Tools take ipvsadm's version from it.
pub(super) const VERSION: &str = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)";
/// The help below the version, as ipvsadm 1.31 prints it.
pub(super) const HELP: &str = include_str!("help.txt");

/// What to know about a service that is accepted as ipvsadm's users expect, but that no packet matches.
pub(super) fn remark(change: &Change) -> Option<String> {
    let Change::AddService(spec) = change else {
        return None;
    };
    match spec.key {
        ServiceKey::Mark { mark, .. } => Some(format!(
            "{}: no packet has this mark yet, as UVS sees packets before netfilter marks them; say which shall: \
             uvs mark {mark} tcp VIP:PORT",
            spec.key
        )),
        ServiceKey::Address { .. } => None,
    }
}

/// What to know about a VIP that is neither on the host nor owned.
pub(super) fn absent(vip: Addr) -> String {
    let bits = if vip.is_v4() { 32 } else { 128 };
    format!(
        "{vip} is on none of this host's interfaces, so UVS is silent about it, as a stand-by must be; to serve it here: \
         ip addr add {vip}/{bits} dev INTERFACE, or uvs run --own-vip {vip}"
    )
}

/// The sentence for a refusal. What ipvsadm does not know, UVS explains in its own words.
pub(super) fn refusal(verb: Verb, change: Option<&Change>, refusal: Refusal) -> String {
    if change.is_some_and(is_our_own) && refusal.errno == Errno::Invalid {
        return refusal.message;
    }
    let sentence = match (refusal.errno, verb) {
        (Errno::Exists, Verb::AddService) => "Service already exists",
        (Errno::Exists, Verb::AddServer) => "Destination already exists",
        (Errno::Exists, Verb::StartDaemon) => "Daemon has already run",
        (Errno::NotFound, Verb::StopDaemon) => "No daemon is running",
        (Errno::NoDevice, _) => "No such device",
        (Errno::Exists, _) => "File exists",
        (Errno::NotFound, Verb::AddServer | Verb::EditServer | Verb::DeleteServer) => {
            "Service not defined"
        }
        (Errno::NotFound, _) => "No such service",
        (Errno::NoServer, _) => "No such destination",
        (Errno::NoScheduler, _) => "Scheduler or persistence engine not found",
        (Errno::Range, _) => "Numerical result out of range",
        (Errno::Invalid, _) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        (Errno::Permission, _) => "Permission denied (you must be root)",
        (Errno::Unsupported | Errno::Failed, _) => return refusal.message,
    };
    sentence.to_owned()
}

fn is_our_own(change: &Change) -> bool {
    match change {
        Change::AddService(spec) | Change::EditService(spec) => {
            !spec.local.is_empty() || *spec.introduction != Introduction::default()
        }
        Change::AddServer(_, server) | Change::EditServer(_, server) => {
            server.forwarding.def().is_ours()
        }
        _ => false,
    }
}
