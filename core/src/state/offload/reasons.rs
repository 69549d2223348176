//! Why frames come up to the engine: one variant = one metric label = one documented line. [`Untaken`] is about
//! a connection, all of whose frames do; [`Up`] about one frame.

use crate::reasons::reasons;

reasons! {
    /// Why a connection is not forwarded in the kernel.
    Untaken {
        Guard "guard"
            "The hook only tells what is ours: it was asked for no more, or the kernel can do no more."
        Protocol "protocol"
            "It is neither TCP nor UDP."
        Mode "mode"
            "Its mode changes packets in a way that the program does not know (GUE, GRE), or between two address families."
        OnePacket "one_packet"
            "One-packet scheduling: each datagram is scheduled on its own."
        Introduced "introduced"
            "Its server is told of its client, or its timestamps change: more of its packets than the program changes."
        State "state"
            "It is not ESTABLISHED, and the kernel takes no others."
        Way "way"
            "There is no way to its server or its client by a port, or the host itself is one of them."
        Server "server"
            "Its real server was removed, or its VIP is not the director's."
        Peers "peers"
            "A sync daemon tells other directors of connections, by the number of their packets."
        Full "full"
            "The hook's table of connections is full."
        Servers "servers"
            "The hook's table of servers is full."
        Hops "hops"
            "The hook's table of next hops is full."
        Refused "refused"
            "The kernel had no memory for it."
    }
}

reasons! {
    /// Why a frame that is ours comes up to the engine.
    Up {
        Service "service"
            "It is to a service, and of no known connection."
        Known "known"
            "Its connection is known, and not forwarded in the kernel."
        Owned "owned"
            "It is to an address that UVS owns."
        Server "server"
            "It is from a server whose packets of no connection are UVS's too."
        Icmp "icmp"
            "It is an ICMP error about a packet of UVS's."
        Fragment "fragment"
            "It is a fragment."
        Syn "syn"
            "It is a client's SYN."
        Options "options"
            "It has IP options."
        Ttl "ttl"
            "Its TTL is 1 or less."
        TooLarge "too_large"
            "It is, or would be behind an outer header, larger than its way allows."
        Stale "stale"
            "Its server or the routes have changed since its connection was taken; the engine takes it again."
        Asked "asked"
            "The engine asks for its connection's frames."
        Hop "hop"
            "The next hop's MAC address is not known."
        Arrival "arrival"
            "It came by another interface than its connection's packets must."
        Window "window"
            "It would end its connection, and its sequence number is not that connection's."
        Reopen "reopen"
            "FULLNAT: the server answers a SYN with what is no SYN-ACK, as it may know an old connection."
        Checksum "checksum"
            "It is a UDP datagram without a checksum, which NAT treats by itself."
        Malformed "malformed"
            "Its headers are not what the program knows: lengths, an IP checksum, a kind of super-frame."
        Busy "busy"
            "Its connection was moved by another CPU at the same time."
        State "state"
            "It would move its connection's state, which the programs of this kernel cannot do."
        Refused "refused"
            "The server answers a SYN with a RST, which is counted of it."
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_ordered_by_discriminant() {
        let untaken = Untaken::ALL.iter().map(|u| (*u as usize, u.label()));
        let up = Up::ALL.iter().map(|u| (*u as usize, u.label()));
        for list in [untaken.collect::<Vec<_>>(), up.collect()] {
            for (i, (at, label)) in list.iter().enumerate() {
                assert_eq!(*at, i);
                assert!(list.iter().skip(i + 1).all(|(_, other)| other != label));
            }
        }
    }
}
