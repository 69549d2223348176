//! A real server behind two services, and one that was removed while its connections go on.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use uvs_core::counters::ScheduleFailure;
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::packet::tcp_flags::SYN;
use uvs_core::service::{Forwarding, ServiceKey, ServiceSpec, Tunnel};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, SERVER, SERVER_PORT, VIP};
use uvs_core::testing::packets::{TestFrame, tcp};
use uvs_core::verdict::{DropReason, Verdict};

const KEY: ServiceKey = ServiceKey::address(Protocol::Tcp, VIP);
const REAL: Endpoint = Endpoint::new(SERVER, SERVER_PORT);

fn bed(forwarding: Forwarding) -> Bed {
    let mut bed = Bed::new(uvs_modes::BUILTIN, Limits::default());
    bed.add_service(Protocol::Tcp, forwarding, Tunnel::default());
    bed
}

fn open(bed: &mut Bed, vip: Endpoint) -> Verdict {
    bed.receive(CLIENTS, TestFrame::finished(&tcp(CLIENT, vip, SYN).frame()))
}

/// A second service with the first one's server.
fn share(bed: &mut Bed) -> Endpoint {
    let vip = Endpoint::new(VIP.addr, VIP.port + 1);
    let mut second = ServiceSpec::clone(&bed.snapshot.services[0]);
    second.key = ServiceKey::address(Protocol::Tcp, vip);
    bed.snapshot.services.push(Arc::new(second));
    bed.apply();
    vip
}

#[test]
fn what_nat_could_not_tell_apart_is_dropped_by_its_own_name() {
    let mut bed = bed(Forwarding::Nat);
    let second = share(&mut bed);
    assert!(matches!(open(&mut bed, VIP), Verdict::Send(_)));
    let dropped = open(&mut bed, second);
    assert!(matches!(
        dropped,
        Verdict::Drop(DropReason::ReplyTupleTaken)
    ));
    let report = bed.engine.report();
    let counted = report.services.iter().find(|s| s.key.vip() == second);
    let failures = counted.unwrap().failures;
    assert_eq!(failures[ScheduleFailure::ReplyTupleTaken as usize], 1);
    assert_eq!(failures[ScheduleFailure::PortsExhausted as usize], 0);
}

#[test]
fn fullnat_tells_them_apart_by_the_local_port() {
    let mut bed = bed(Forwarding::FullNat);
    let second = share(&mut bed);
    for vip in [VIP, second] {
        assert!(matches!(open(&mut bed, vip), Verdict::Send(_)));
    }
}

#[test]
fn a_removed_server_is_known_for_as_long_as_it_has_connections() {
    let mut bed = bed(Forwarding::Nat);
    let connections = |bed: &Bed| bed.engine.connections_of(KEY, REAL);
    assert_eq!(connections(&bed), 0);
    open(&mut bed, VIP);
    assert_eq!(connections(&bed), 1);
    let with = bed.snapshot.services[0].clone();
    for without in [
        vec![Arc::new(ServiceSpec::new(KEY, "first"))],
        Vec::new(),
        vec![with],
    ] {
        bed.snapshot.services = without;
        bed.apply();
        assert_eq!(connections(&bed), 1);
    }
    bed.snapshot.services.clear();
    bed.apply();
    bed.wait(std::time::Duration::from_secs(61));
    assert_eq!(connections(&bed), 0, "SYN_RECV is over");
}
