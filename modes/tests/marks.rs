//! Services of firewall marks whose packets rules of UVS's own mark: one template for all that has the mark,
//! and which port a server gets (`ip_vs_sched_persist`, `ip_vs_schedule`).

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::marks::MarkRule;
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Limits;
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, SERVER, SERVERS, SERVERS_MAC, VIP};
use uvs_core::testing::packets::{ACK, SYN, TestFrame, tcp, udp};
use uvs_core::verdict::Verdict;

const MARK: u32 = 7;
const OTHER_SERVER: Addr = Addr::v4([10, 0, 2, 12]);

/// A service of the mark with two NAT servers of this port, the first of which has the new connections.
fn bed(port: u16, persistent: bool, rules: &[&str]) -> Bed {
    let mut bed = Bed::new(uvs_modes::BUILTIN, Limits::default());
    let key = ServiceKey::Mark {
        mark: MARK,
        ipv6: false,
    };
    let mut service = ServiceSpec::new(key, "first");
    service.persistence = persistent.then_some(Persistence {
        timeout: 300,
        mask: u32::MAX,
    });
    let server = |addr| ServerSpec::new(Endpoint::new(addr, port), Forwarding::Nat);
    service.servers = vec![server(SERVER), server(OTHER_SERVER)];
    bed.snapshot.services = vec![service.into()].into();
    let rule = |text: &&str| MarkRule {
        mark: MARK,
        to: text.parse().expect("a destination"),
    };
    bed.snapshot.marks = rules.iter().map(rule).collect();
    bed.apply();
    bed
}

/// A client's first packet to a port of the VIP; the server that it went to, `None` where it is the host's.
fn open(bed: &mut Bed, client: u8, protocol: Protocol, port: u16) -> Option<Endpoint> {
    let from = Endpoint::new(Addr::v4([192, 0, 2, client]), CLIENT.port);
    let to = Endpoint::new(VIP.addr, port);
    let packet = match protocol {
        Protocol::Udp => udp(from, to),
        Protocol::Tcp | Protocol::Sctp => tcp(from, to, SYN),
    };
    let frame = TestFrame::finished(&packet.frame());
    if bed.receive(CLIENTS, frame) == Verdict::Pass {
        return None;
    }
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 100);
    let of_packet = conns.iter().find(|c| c.client == from && c.vip == to);
    Some(of_packet.expect("a connection").server)
}

#[test]
fn a_client_has_one_server_for_all_that_is_marked() {
    let mut bed = bed(0, true, &["tcp 10.0.1.100:80-443", "udp 10.0.1.100:53"]);
    let at = |addr, port| Some(Endpoint::new(addr, port));
    assert_eq!(open(&mut bed, 1, Protocol::Tcp, 80), at(SERVER, 80));
    let mut service = (*bed.snapshot.services[0]).clone();
    service.servers[0].weight = 0;
    bed.snapshot.services = vec![service.into()].into();
    bed.apply();
    assert_eq!(open(&mut bed, 2, Protocol::Tcp, 80), at(OTHER_SERVER, 80));
    assert_eq!(open(&mut bed, 1, Protocol::Tcp, 443), at(SERVER, 443));
    assert_eq!(open(&mut bed, 1, Protocol::Udp, 53), at(SERVER, 53));
    assert_eq!(open(&mut bed, 1, Protocol::Udp, 80), None, "not marked");
    let (all, _) = bed.engine.report_connections(bed.now, 0, 100);
    let template = all.iter().find(|c| c.protocol.is_none());
    let template = template.expect("a template for all protocols");
    let mark = Endpoint::new(Addr::v4(MARK.to_be_bytes()), 0);
    assert_eq!((template.vip, template.state), (mark, "NONE"));
}

#[test]
fn a_servers_port_counts_unless_it_is_0_or_a_template_leads_to_it() {
    for (port, persistent, expected) in [(8080, false, 8080), (0, false, 443), (8080, true, 443)] {
        let mut bed = bed(port, persistent, &["any 10.0.1.100"]);
        let server = open(&mut bed, 1, Protocol::Tcp, 443);
        assert_eq!(server, Some(Endpoint::new(SERVER, expected)));
    }
}

#[test]
fn a_rule_without_a_service_marks_nothing() {
    let mut bed = bed(0, false, &["tcp 10.0.1.100:1-1024"]);
    assert!(open(&mut bed, 1, Protocol::Tcp, 80).is_some());
    // More exact, and of a mark that nobody serves.
    let to = "tcp 10.0.1.100:80".parse().expect("a destination");
    bed.snapshot.marks.push(MarkRule { mark: 8, to });
    bed.apply();
    assert!(open(&mut bed, 2, Protocol::Tcp, 80).is_some());
    bed.snapshot.services.clear();
    bed.apply();
    assert_eq!(open(&mut bed, 3, Protocol::Tcp, 80), None);
}

#[test]
fn what_no_client_sent_for_is_the_kernels() {
    let stray = |rules: &[&str], protocol| {
        let (from, to) = (Endpoint::new(SERVER, 9999), CLIENT);
        let packet = match protocol {
            Protocol::Udp => udp(from, to),
            Protocol::Tcp | Protocol::Sctp => tcp(from, to, ACK),
        };
        let frame = packet.to_mac(SERVERS_MAC).frame();
        let mut bed = bed(0, false, rules);
        bed.receive(SERVERS, TestFrame::finished(&frame))
    };
    let rules = ["tcp 10.0.1.100:80"];
    assert_eq!(stray(&rules, Protocol::Tcp), Verdict::Pass);
    assert_eq!(stray(&rules, Protocol::Udp), Verdict::Pass);
    assert_eq!(stray(&[], Protocol::Tcp), Verdict::Pass);
}
