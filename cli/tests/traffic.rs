//! Real traffic through `uvs run`, in every mode, with the veth pairs' offloads at their defaults and off:
//! transfers compared byte by byte, load without one failed request, bulk TCP, UDP with and without GSO,
//! and what arrives judged by tcpdump. Needs root, or `make test`, which runs it in a user namespace.
//!
//! `UVS_LOAD_SECONDS=10 cargo test --release -p uvs --test traffic -- load` loads each cell for 10 s.

#[path = "traffic/director.rs"]
mod director;
#[path = "traffic/pcap.rs"]
mod pcap;

#[path = "traffic/bytes.rs"]
mod bytes;
#[path = "traffic/flows.rs"]
mod flows;
#[path = "traffic/wire.rs"]
mod wire;

/// One cell of the matrix: a mode, and offloads on all hosts.
macro_rules! cell {
    ($name:ident, $mode:ident, $offloads:ident) => {
        mod $name {
            use uvs_lab::{Mode, Offloads};

            #[test]
            fn transfers_of_100_mb_arrive_byte_by_byte() {
                crate::flows::transfers(Mode::$mode, Offloads::$offloads);
            }

            #[test]
            fn load_of_32_connections_fails_no_request() {
                crate::flows::load(Mode::$mode, Offloads::$offloads);
            }

            #[test]
            fn bulk_tcp_flows_both_ways() {
                crate::flows::bulk(Mode::$mode, Offloads::$offloads);
            }

            #[test]
            fn udp_is_answered_also_when_sent_by_gso() {
                crate::flows::udp(Mode::$mode, Offloads::$offloads);
            }
        }
    };
}

/// A mode's cells, and what its frames must be at the receivers.
macro_rules! mode {
    ($name:ident, $mode:ident) => {
        mod $name {
            cell!(offloads_default, $mode, Default);
            cell!(offloads_off, $mode, Off);

            #[test]
            fn frames_are_whole_and_true_at_the_receivers() {
                crate::wire::offloads_off(uvs_lab::Mode::$mode);
            }

            #[test]
            fn super_frames_leave_whole_and_true_where_the_director_has_no_offloads() {
                crate::wire::director_without_offloads(uvs_lab::Mode::$mode);
            }
        }
    };
}

mode!(dr, Dr);
mode!(nat, Nat);
mode!(fullnat, FullNat);
mode!(ipip, Ipip);
