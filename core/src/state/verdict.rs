//! What the engine decides about a frame, and the closed list of reasons for a drop.

use serde::{Deserialize, Serialize};

use crate::crew::Handing;
use crate::flow::Addr;

/// A port's index in the shell's list of interfaces.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
pub struct PortId(pub u16);

impl PortId {
    /// The host's own stack: what its programs send to a VIP comes in by it, and what is for them leaves
    /// by it. It is on no list of interfaces, and has no MAC address.
    pub const HOST: Self = Self(u16::MAX);
}

/// Where a frame leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// The port to send through.
    pub port: PortId,
    /// Set where the next hop's MAC address is not known yet: the destination MAC in the frame is zero,
    /// and the shell keeps the frame until the kernel has resolved this address.
    pub unresolved: Option<Addr>,
}

/// What became of one received frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The frame, rewritten in place, leaves.
    Send(Egress),
    /// The frame's content leaves as the frames now in the outbox (segments, fragments).
    SendOutbox,
    /// The frame ends here; the outbox holds what is answered (ICMP, RST, ARP).
    Answered,
    /// A fragment, kept until its datagram is whole.
    Held,
    /// Not ours: the kernel's.
    Pass,
    /// For the host's own stack, from which the guard has kept it: the director itself is the packet's real
    /// server or its client, its VIP is not the director's, or it belongs to no connection. The frame as it is
    /// now, or what it became in the outbox (reassembled, segments).
    Local,
    /// It is another worker's, whose engine says what becomes of it: the frame as it came, or the datagram that it has made
    /// whole ([`Engine::take_elsewhere`](crate::engine::Engine::take_elsewhere)).
    Elsewhere(Handing),
    /// Ends here, counted by reason.
    Drop(DropReason),
}

macro_rules! drop_reasons {
    ($($variant:ident $label:literal $meaning:literal $advice:literal)*) => {
        /// Why a frame was dropped: one variant = one metric label = one documented line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $meaning] $variant),* }

        impl DropReason {
            /// All reasons, in order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The metric label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }

            /// What it means, one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// What to do about it, one sentence.
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),* }
            }
        }
    };
}

drop_reasons! {
    Truncated "truncated"
        "The frame ends before the headers it promises."
        "Look for a broken sender or an MTU mismatch; `tcpdump -v` on the interface shows the frame."
    BadIpHeader "bad_ip_header"
        "The IP header's version or lengths are inconsistent, or an IPv6 packet has more than 256 extension headers."
        "A broken or hostile sender; the kernel drops such packets too (IpInHdrErrors)."
    BadIpChecksum "bad_ip_checksum"
        "The IPv4 header checksum is wrong."
        "A broken sender or memory on the path."
    SourceRoute "source_route"
        "The packet carries a source route option."
        "Hosts refuse them by default (net.ipv4.conf.*.accept_source_route); so does UVS."
    HopByHopOptions "hop_by_hop_options"
        "An IPv6 packet's hop-by-hop options contradict each other, are too many, are padding that means something, or ask to be refused by who does not know them."
        "A broken or hostile sender; net.ipv6.max_hbh_opts_number is what the kernel takes."
    Jumbogram "jumbogram"
        "An IPv6 packet says that it is longer than 65,535 bytes (RFC 2675)."
        "No link that UVS runs on carries such packets; look at the sender's gso_max_size and gro_max_size."
    MartianSource "martian_source"
        "No host can have the source (0.0.0.0/8, 127.0.0.0/8, 224.0.0.0 and above, the broadcast address of a network here; in IPv6 ::1 and multicast), or it is the director's own, a VIP that UVS owns, or the packet's own destination."
        "Forged, or a host with one of the director's addresses; the source MAC address in `tcpdump -e` shows who sends it."
    BadTcpHeader "bad_tcp_header"
        "The TCP data offset is out of range."
        "A broken or hostile sender."
    BadChecksum "bad_checksum"
        "A segment that had to be answered, or a datagram whose data had to be changed, carries a wrong checksum."
        "A corrupt segment is not answered (RFC 9293 §3.1), and no new checksum hides damage; look at the sender's offloads."
    BadChunk "bad_chunk"
        "An SCTP packet's first chunk is malformed."
        "A broken or hostile sender."
    NoConnection "no_connection"
        "A RST, or an ICMP error, about a connection that is not in the table."
        "Harmless in small numbers: late packets of ended connections."
    ServerGone "server_gone"
        "The connection's real server was removed and expire_nodest_conn is 0."
        "As IPVS does. The service's on_removal = \"tell\" or \"drop\", or net.ipv4.vs.expire_nodest_conn=1, ends such connections."
    SchedulerFault "scheduler_fault"
        "The scheduler returned a server that does not exist or may not be used."
        "A plugin's fault: run `uvs plugin check` on it."
    NoCallId "no_call_id"
        "A packet to a service with the persistence engine sip is no datagram, or names no call: it has no Call-ID of at most 255 bytes."
        "As IPVS does. Give what is no SIP over UDP a service of its own, without --pe sip."
    TableFull "table_full"
        "The connection table is at its limit, and nothing in it was half-open or over."
        "Raise limits.connections, or lower the time-outs with `ipvsadm --set`."
    Denied "denied"
        "The client's address is on a deny list: of every service, or of the one that it asked for."
        "As configured; `uvs deny list` shows the lists, and `uvs trace` which entry it was."
    ClientRate "client_rate"
        "A client opened connections faster than the service lets one client."
        "As configured by the service's new_connections_per_client; raise it if many people share an address."
    ServiceRate "service_rate"
        "All clients together opened connections faster than the service may take."
        "As configured by the service's new_connections_per_second; raise it, or find who floods the service."
    DropPacket "drop_packet"
        "The defence drop_packet dropped a new connection's first packet."
        "As configured by net.ipv4.vs.drop_packet: the connection table is nearly full, or it is set to 3."
    PortsExhausted "ports_exhausted"
        "No local port is free for a FULLNAT connection to this server."
        "Add local addresses (--laddr) or widen limits.local_ports."
    NoRoute "no_route"
        "The kernel has no route to the next hop, or one that rejects the packet."
        "`ip route get ADDRESS` on the director."
    Untranslatable "untranslatable"
        "A packet between the address families says what the other family cannot: a routing header with a way still to go, an AH header, an ICMP type of one family alone."
        "FULLNAT between IPv4 and IPv6 leaves such packets out (RFC 7915); docs/modes.md has the list."
    LocalServer "local_server"
        "The director itself is the real server, in a way that its own stack cannot serve: by NAT to an address of 127.0.0.0/8, or by -g or -i for a VIP that is not the host's."
        "By NAT and FULLNAT, use another address of the director's; by -g, configure the VIP on the director."
    NotAPort "not_a_port"
        "The route leads out of an interface that UVS does not run on."
        "Add the interface to `uvs run --interface` or to the configuration."
    NeighbourUnresolved "neighbour_unresolved"
        "The next hop did not answer ARP, or IPv6's neighbour solicitations, in time."
        "Is the server up, and in the broadcast domain? `ip neigh` on the director."
    ReversePath "reverse_path"
        "The interface's rp_filter refuses the packet's source: the way back to it leads out of another interface, or there is none."
        "A forged source, or asymmetric routing: `ip route get SOURCE from VIP`, and net.ipv4.conf.IF.rp_filter (0 off, 2 loose)."
    TtlExceeded "ttl_exceeded"
        "An ICMP message or a fragment arrived with a TTL of 1 or less."
        "A routing loop, or a traceroute."
    IcmpRateLimited "icmp_rate_limited"
        "An ICMP error was due, but the limit of 1000 a second, 50 at once, was reached."
        "Somebody probes; look at the sources."
    FragmentTimeout "fragment_timeout"
        "A datagram's fragments did not all arrive within 30 s, or in IPv6 60 s."
        "Packet loss, or a sender of lone fragments."
    FragmentLimit "fragment_limit"
        "The memory for fragments is full, or a datagram has too many or overlapping fragments."
        "An attack with fragments, or far too much fragmented traffic."
    BadFragmentLength "bad_fragment_length"
        "A fragment has an impossible length: none, no multiple of 8 bytes though more fragments follow, or one that reaches beyond 64 KiB."
        "A broken or hostile sender (RFC 791 §3.2, RFC 8200 §4.5); `tcpdump -v` on the interface shows the fragment."
    GsoUnsupported "gso_unsupported"
        "A super-frame of a kind that cannot be forwarded (neither TCP nor UDP segmentation)."
        "Turn that offload off on the sender, or on the interface with ethtool -K."
    Oversized "oversized"
        "The frame is larger than UVS's buffers or would be after encapsulation."
        "Lower the MTU or the GSO size (`ip link set DEV gso_max_size`)."
    ClampedFrame "clamped_frame"
        "The kernel could not queue a super-frame for us, so only its head arrived."
        "Raise net.core.rmem_max, or run with CAP_NET_ADMIN so that UVS can size its own buffer."
    WorkerBehind "worker_behind"
        "The frame was another worker's, for which too many already waited."
        "That worker cannot keep up; `uvs top` shows how busy each is."
    SendQueueFull "send_queue_full"
        "The interface did not take the frame."
        "The link is slower than the traffic; look at the interface's queue."
    SendFailed "send_failed"
        "The kernel refused the frame for another reason (uvs_tx_errors_total has the errno)."
        "Is the interface up?"
    HoldQueueFull "hold_queue_full"
        "Too many frames already wait for this next hop's MAC address."
        "The neighbour does not answer ARP; `ip neigh` on the director."
    VipArriving "vip_arriving"
        "The VIP came to this host a moment ago, and UVS had not heard of it yet: the host's own stack would have refused the packet."
        "Harmless in the moment of a takeover: the sender sends it again."
    UnknownFragNeeded "unknown_frag_needed"
        "ICMP `fragmentation needed`, or ICMPv6 `packet too big`, for a VIP that UVS owns, about no connection and no tunnel of ours."
        "A late error about a connection that has ended; in large numbers, forged ones, which have no effect."
    UnsupportedProtocol "unsupported_protocol"
        "A packet to a VIP that UVS owns, of a protocol it does not serve."
        "Put the VIP on the host if the host is to answer."
}

impl DropReason {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Where frames are dropped for this reason.
    pub const fn stage(self) -> Stage {
        let after = matches!(
            self,
            Self::NeighbourUnresolved
                | Self::SendQueueFull
                | Self::SendFailed
                | Self::HoldQueueFull
                | Self::VipArriving
        );
        if after { Stage::Output } else { Stage::Input }
    }
}

/// Where a frame was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// By the decision about a received frame.
    Input,
    /// After it: a frame that was to be sent, forwarded or made, did not leave.
    Output,
}

impl Stage {
    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_ordered_by_discriminant() {
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
            assert!(
                DropReason::ALL
                    .iter()
                    .skip(i + 1)
                    .all(|o| o.label() != r.label())
            );
        }
    }
}
