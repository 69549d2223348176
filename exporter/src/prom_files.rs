//! `/proc/net/ip_vs` and `/proc/net/ip_vs_stats` as the kernel writes them, for programs that read those.
//!
//! After `ip_vs_info_seq_show` and `ip_vs_stats_show` of `net/netfilter/ipvs/ip_vs_ctl.c`.

use std::fmt::Write as _;

use uvs_core::counters::Stats;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};

/// What the kernel knows of a server beside how it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// As it was asked for.
    pub spec: ServerSpec,
    /// Whether the address is the host's own.
    pub local: bool,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
}

/// The text of `net/ip_vs`: services with their servers.
pub fn ip_vs<'a>(
    table_size: u32,
    services: impl Iterator<Item = (&'a ServiceSpec, Vec<Server>)>,
) -> String {
    let mut text = format!(
        "IP Virtual Server version 1.2.1 (size={table_size})\n\
         Prot LocalAddress:Port Scheduler Flags\n  \
         -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    );
    // Writing to a string cannot fail.
    for (spec, servers) in services {
        let _ = writeln!(text, "{}", service(spec));
        for s in servers {
            let _ = writeln!(
                text,
                "  -> {}      {:<7} {:<6} {:<10} {:<10}",
                endpoint(s.spec.endpoint),
                forwarding(&s),
                s.spec.weight,
                s.active,
                s.inactive
            );
        }
    }
    text
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
            // The kernel forgets the flag for IPv6.
            let one_packet = if addr.is_v4() { one_packet } else { "" };
            format!("{protocol}  {vip} {scheduler} {one_packet}")
        }
        ServiceKey::Mark { mark, .. } => format!("FWM  {mark:08X} {scheduler} {one_packet}"),
    };
    if let Some(p) = spec.persistence {
        let _ = write!(line, "persistent {} {:08X}", p.timeout, p.mask);
    }
    line
}

fn endpoint(e: Endpoint) -> String {
    format!("{}:{:04X}", address(e.addr), e.port)
}

fn address(addr: Addr) -> String {
    match addr.as_v4() {
        Some(v4) => format!("{:08X}", u32::from_be_bytes(v4)),
        None => {
            let groups = addr
                .0
                .chunks(2)
                .map(|g| format!("{:02x}{:02x}", g[0], g[1]));
            format!("[{}]", groups.collect::<Vec<_>>().join(":"))
        }
    }
}

fn forwarding(server: &Server) -> &'static str {
    if server.local {
        "Local"
    } else {
        server.spec.forwarding.def().listed
    }
}
