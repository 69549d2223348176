//! What the hook's program must know to tell whose a frame is that belongs to no connection: the same that the nft
//! guard is made from, said otherwise. Pure.
//!
//! Connections are told apart one by one, so that nothing here is about a NAT server's replies: what it sends that
//! is of no connection is the host's, but where the engine answers that itself (nat_icmp_send) or it may begin one.

use uvs_hook::{FullNat, Rules};

use crate::guard::GuardSpec;

/// The program's rules for what is to be kept from the kernel.
pub(crate) fn of(spec: &GuardSpec) -> Rules {
    let nat = &spec.nat;
    Rules {
        to: [spec.services.clone(), nat.services.clone()],
        wide: [spec.wide.clone(), nat.wide.clone()],
        ftp: spec.ftp.clone(),
        owned: spec.owned.clone(),
        local: spec.local.clone(),
        fullnat: FullNat {
            servers: spec.fullnat.servers.clone(),
            local: spec.fullnat.local.clone(),
            ports: spec.fullnat.ports,
        },
        strays: match nat.answers_strays {
            true => spec.nat_servers.clone(),
            false => nat.callers.clone(),
        },
        servers: [spec.nat_servers.clone(), spec.fullnat.servers.clone()],
        tunnels: spec.tunnels.clone(),
    }
}

#[cfg(test)]
mod tests {
    use uvs_core::flow::{Addr, Protocol};

    use super::*;
    use crate::guard::Nat;

    const SERVER: Addr = Addr::v4([10, 0, 2, 1]);

    #[test]
    fn what_a_nat_server_sends_by_itself_is_the_hosts_unless_the_engine_answers_it() {
        let spec = |answers_strays| GuardSpec {
            nat: Nat {
                answers_strays,
                ..Nat::default()
            },
            nat_servers: [(SERVER, Protocol::Tcp, 8080), (SERVER, Protocol::Tcp, 8081)].into(),
            ..GuardSpec::default()
        };
        assert!(of(&spec(false)).strays.is_empty());
        assert_eq!(of(&spec(true)).strays.len(), 2);
        let caller = (SERVER, Protocol::Udp, 5060);
        let mut called = spec(false);
        called.nat.callers = [caller].into();
        assert_eq!(of(&called).strays, [caller].into());
    }
}
