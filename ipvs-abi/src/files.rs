//! IPVS's files under /proc/net as the kernel writes them.
//!
//! After `ip_vs_info_seq_show` and `ip_vs_stats_show` of `net/netfilter/ipvs/ip_vs_ctl.c`, and
//! `ip_vs_conn_seq_show` of `ip_vs_conn.c`.

use std::fmt::Write as _;

use uvs_control::protocol::{ServerStatus, Services};
use uvs_core::counters::Stats;
use uvs_core::engine::ConnReport;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{ServiceKey, ServiceSpec};

/// Jiffies a second, in which the kernel writes persistence: HZ of Debian's and most others' kernels.
const JIFFIES_PER_SECOND: u32 = 250;

/// The first line of [`connections`].
pub const CONNECTIONS_HEAD: &str =
    "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n";

/// The text of `net/ip_vs`: services with their servers.
pub fn ip_vs(all: &Services) -> String {
    let mut text = format!(
        "IP Virtual Server version 1.2.1 (size={})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n",
        all.table_size
    );
    // Writing to a string cannot fail.
    for status in &all.services {
        let _ = writeln!(text, "{}", service(&status.spec));
        for s in &status.servers {
            let _ = writeln!(
                text,
                "  -> {}      {:<7} {:<6} {:<10} {:<10}",
                endpoint(s.spec.endpoint),
                forwarding(s),
                s.spec.weight,
                s.numbers.active,
                s.numbers.inactive
            );
        }
    }
    text
}

/// Lines of `net/ip_vs_conn`: connections and persistence templates.
pub fn connections(some: &[ConnReport]) -> String {
    some.iter().map(connection).collect()
}

fn connection(c: &ConnReport) -> String {
    // A template of a firewall mark has no protocol of its own.
    let protocol = c.protocol.map_or("IP", |protocol| protocol.name());
    let end = |e: Endpoint| format!("{} {:04X}", groups(e.addr), e.port);
    let engine = c.call.as_ref().map(|call| format!(" sip {call}"));
    format!(
        "{protocol:<3} {} {} {} {:<11} {:>7}{}\n",
        end(c.client),
        end(c.vip),
        end(c.server),
        c.state,
        c.expires,
        engine.unwrap_or_default()
    )
}

/// The text of `net/ip_vs_stats`: totals, and rates a second.
pub fn ip_vs_stats(totals: &Stats, rates: &Stats) -> String {
    let row = |s: &Stats| {
        format!(
            "{:8X} {:8X} {:8X} {:16X} {:16X}\n",
            s.connections, s.in_packets, s.out_packets, s.in_bytes, s.out_bytes
        )
    };
    format!(
        "   Total Incoming Outgoing         Incoming         Outgoing\n   \
         Conns  Packets  Packets            Bytes            Bytes\n\
         {}\n \
         Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s\n\
         {}",
        row(totals),
        row(rates)
    )
}

fn service(spec: &ServiceSpec) -> String {
    let one_packet = if spec.one_packet { "ops " } else { "" };
    let scheduler = &spec.scheduler;
    let mut line = match spec.key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => {
            let vip = endpoint(Endpoint::new(addr, port));
            match addr.is_v4() {
                true => format!("{protocol}  {vip} {scheduler} {one_packet} "),
                // The kernel forgets the flag.
                false => format!("{protocol}  {vip} {scheduler} "),
            }
        }
        ServiceKey::Mark { mark, .. } => format!("FWM  {mark:08X} {scheduler} {one_packet}"),
    };
    if let Some(p) = spec.persistence {
        let jiffies = p.timeout.saturating_mul(JIFFIES_PER_SECOND);
        // It takes an IPv6 prefix length, a number of its own, for one in network order.
        let mask = match spec.key.is_v4() {
            true => p.mask,
            false => u32::from_be_bytes(p.mask.to_ne_bytes()),
        };
        let _ = write!(line, "persistent {jiffies} {mask:08X}");
    }
    line
}

fn endpoint(e: Endpoint) -> String {
    format!("{}:{:04X}", address(e.addr), e.port)
}

fn address(addr: Addr) -> String {
    match addr.is_v4() {
        true => groups(addr),
        false => format!("[{}]", groups(addr)),
    }
}

/// An address without brackets: 8 digits, or 8 groups of 4.
fn groups(addr: Addr) -> String {
    match addr.as_v4() {
        Some(v4) => format!("{:08X}", u32::from_be_bytes(v4)),
        None => {
            let octets = addr.v6_octets();
            let groups = octets
                .chunks(2)
                .map(|g| format!("{:02x}{:02x}", g[0], g[1]));
            groups.collect::<Vec<_>>().join(":")
        }
    }
}

fn forwarding(server: &ServerStatus) -> &'static str {
    if server.local {
        "Local"
    } else {
        server.spec.forwarding.def().listed
    }
}
