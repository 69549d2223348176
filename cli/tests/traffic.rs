//! Real traffic through `uvs run`, in every mode, in both families and between them, with the veth pairs' offloads at their defaults and off:
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

/// One cell of the matrix: a mode, the families of clients and servers, and offloads on all hosts.
macro_rules! cell {
    ($name:ident, $mode:ident, $families:ident, $offloads:ident) => {
        mod $name {
            use uvs_lab::{Families, Mode, Offloads};

            #[test]
            fn transfers_of_100_mb_arrive_byte_by_byte() {
                crate::flows::transfers(Mode::$mode, Families::$families, Offloads::$offloads);
            }

            #[test]
            fn load_bulk_and_datagrams_lose_nothing() {
                crate::flows::streams(Mode::$mode, Families::$families, Offloads::$offloads);
            }
        }
    };
}

/// A mode's cells, and what its frames must be at the receivers.
macro_rules! mode {
    ($name:ident, $mode:ident, $families:ident) => {
        mod $name {
            cell!(offloads_default, $mode, $families, Default);
            cell!(offloads_off, $mode, $families, Off);

            #[test]
            fn frames_are_whole_and_true_at_the_receivers() {
                crate::wire::offloads_off(uvs_lab::Mode::$mode, uvs_lab::Families::$families);
            }

            #[test]
            fn super_frames_leave_whole_and_true_where_the_director_has_no_offloads() {
                crate::wire::director_without_offloads(
                    uvs_lab::Mode::$mode,
                    uvs_lab::Families::$families,
                );
            }
        }
    };
}

mode!(dr, Dr, V4);
mode!(nat, Nat, V4);
mode!(fullnat, FullNat, V4);
mode!(ipip, Ipip, V4);
mode!(dr_ipv6, Dr, V6);
mode!(nat_ipv6, Nat, V6);
mode!(fullnat_ipv6, FullNat, V6);
mode!(ipip_ipv6, Ipip, V6);
// Between the families: kernel IPVS has the tunnels, FULLNAT is UVS's own.
mode!(ipip_ipv6_in_ipv4, Ipip, V6To4);
mode!(ipip_ipv4_in_ipv6, Ipip, V4To6);
mode!(fullnat_ipv6_to_ipv4, FullNat, V6To4);
mode!(fullnat_ipv4_to_ipv6, FullNat, V4To6);
