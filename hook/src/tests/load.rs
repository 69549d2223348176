//! Loading, attaching, pinning.

use std::process::Command;
use std::sync::Arc;

use uvs_core::offload::Reach;
use uvs_core::time::Instant;

use crate::hook::{Hook, Setup};
use crate::maps::Limits;
use crate::programs;
use crate::sys::program::{SCHED_CLS, SYSCALL};
use crate::testing::net::inside;

/// A hook with little room.
pub(super) fn small() -> Setup {
    Setup {
        limits: Limits {
            connections: 1024,
            servers: 64,
            hops: 64,
            rules: 1024,
            ports: 8,
        },
        ..Setup::default()
    }
}

#[test]
fn each_program_is_accepted_by_the_verifier() {
    load_all();
}

fn load_all() {
    let hook = Hook::load(&small(), Hook::clock()).unwrap();
    assert_eq!((hook.reach(), hook.shortfall()), (Reach::Everything, None));
    for (name, kind) in [
        ("everything", SCHED_CLS),
        ("established", SCHED_CLS),
        ("guard", SCHED_CLS),
        ("egress", SCHED_CLS),
        ("remove", SYSCALL),
    ] {
        if let Err(e) = programs::load(name, kind, &hook.maps) {
            panic!("{e}");
        }
    }
}

/// Says to the test that it runs with few capabilities.
const FEW: &str = "UVS_HOOK_FEW_CAPABILITIES";

#[test]
fn net_admin_and_bpf_are_enough() {
    if std::env::var_os(FEW).is_some() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        // Of CAP_NET_ADMIN (12) and CAP_BPF (39) alone.
        assert!(status.contains("CapEff:\t0000008000001000"), "{status}");
        load_all();
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-all,+net_admin,+bpf"])
        .arg(program)
        .args([
            "--exact",
            "tests::load::net_admin_and_bpf_are_enough",
            "--nocapture",
        ])
        .env(FEW, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{errors}"
    );
}

#[test]
fn a_hook_has_one_worker() {
    let hook = Arc::new(Hook::load(&small(), Instant::ZERO).unwrap());
    assert!(hook.worker().is_ok());
    assert!(hook.worker().is_err());
}

#[test]
fn an_attached_program_is_seen_and_taken_away() {
    inside(|net| {
        let ifindex = net.interface("c0", "02:00:00:00:01:01");
        let hook = Hook::load(&small(), Hook::clock()).unwrap();
        assert!(!hook.is_attached(ifindex).unwrap());
        let attached = hook.attach(ifindex).unwrap();
        assert_eq!(attached.others, 0);
        assert!(hook.is_attached(ifindex).unwrap());
        hook.detach(ifindex);
        assert!(!hook.is_attached(ifindex).unwrap());
    });
}
