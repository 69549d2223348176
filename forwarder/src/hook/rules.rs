//! What the hook's program must know to tell whose a frame is that belongs to no connection: the same that the nft
//! guard is made from, said otherwise. Pure.
//!
//! Connections are told apart one by one, so that nothing here is about a NAT server's replies: what it sends that
//! is of no connection is the host's, but where the engine answers that itself (nat_icmp_send).

use uvs_core::flow::{Addr, Protocol};
use uvs_hook::{FullNat, Rules, TunnelEnd};

use crate::guard::{self, GuardSpec, Server};

/// The program's rules for what is to be kept from the kernel.
pub(crate) fn of(spec: &GuardSpec) -> Rules {
    let services = spec.services.iter().chain(&spec.nat.services);
    let wide = spec.wide.iter().chain(&spec.nat.wide);
    let repliers = spec.nat_servers.iter().chain(&spec.fullnat.servers);
    let strays: &[Server] = match spec.nat.answers_strays {
        true => &spec.nat_servers,
        false => &[],
    };
    Rules {
        to: in_order(services.map(|&(protocol, addr, port)| (protocol, addr, port))),
        wide: in_order(wide.copied()),
        ftp: spec.ftp.clone(),
        owned: spec.owned.clone(),
        local: spec.local.clone(),
        fullnat: FullNat {
            servers: spec.fullnat.servers.clone(),
            local: spec.fullnat.local.clone(),
            ports: spec.fullnat.ports,
        },
        strays: strays.to_vec(),
        servers: in_order(repliers.map(|&(addr, _, _): &(Addr, Protocol, u16)| addr)),
        tunnels: spec.tunnels.iter().map(tunnel).collect(),
    }
}

fn tunnel(end: &guard::TunnelEnd) -> TunnelEnd {
    TunnelEnd {
        addr: end.addr,
        protocol: end.protocol,
        port: end.port,
    }
}

/// Each once, so that equal states compare equal.
fn in_order<T: Ord>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = all.collect();
    all.sort();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Nat;

    const VIP: Addr = Addr::v4([10, 0, 1, 100]);
    const SERVER: Addr = Addr::v4([10, 0, 2, 1]);

    fn spec(answers_strays: bool) -> GuardSpec {
        GuardSpec {
            services: vec![(Protocol::Udp, VIP, 53)],
            nat: Nat {
                services: vec![(Protocol::Tcp, VIP, 80), (Protocol::Tcp, VIP, 80)],
                answers_strays,
                ..Nat::default()
            },
            nat_servers: vec![(SERVER, Protocol::Tcp, 8080), (SERVER, Protocol::Tcp, 8081)],
            ..GuardSpec::default()
        }
    }

    #[test]
    fn services_of_all_modes_are_one_list_and_a_server_is_named_once() {
        let rules = of(&spec(false));
        let services = [(Protocol::Tcp, VIP, 80), (Protocol::Udp, VIP, 53)];
        assert_eq!(rules.to, services);
        assert_eq!(rules.servers, [SERVER]);
    }

    #[test]
    fn what_a_nat_server_sends_by_itself_is_the_hosts_unless_the_engine_answers_it() {
        assert!(of(&spec(false)).strays.is_empty());
        assert_eq!(of(&spec(true)).strays.len(), 2);
    }
}
