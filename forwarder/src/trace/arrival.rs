//! How a frame that was written down or made up would come in: by which port, and as what kind of frame.

use uvs_core::fib::{Fib, Interface, NextHop, Query};
use uvs_core::flow::Addr;
use uvs_core::frame::{ETH_LEN, Gso, Offload};
use uvs_core::packet::IPV4_MIN_HEADER;
use uvs_core::verdict::PortId;

/// IP protocol number of TCP.
const TCP: u8 = 6;
/// Where TCP's checksum is in its header.
const TCP_CHECKSUM: u16 = 16;

/// A frame at the director.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Nanoseconds after the first frame.
    pub after_ns: u64,
    /// The port it comes in by; `None` for one that the director itself sent.
    pub port: Option<PortId>,
    /// From the destination MAC on.
    pub bytes: Vec<u8>,
    /// What is unfinished in it.
    pub offload: Offload,
}

impl Arrival {
    /// The frame `bytes` as it comes in by one of `fib`'s interfaces: by the one it is addressed to, else by
    /// the one that its source is reached by.
    pub fn new(after_ns: u64, mut bytes: Vec<u8>, fib: &Fib) -> Self {
        let interface = if is_made_up(&bytes) {
            let interface = towards_source(&bytes, fib);
            if let Some(interface) = interface {
                address(&mut bytes, interface, fib);
            }
            interface
        } else if fib.interfaces().iter().any(|i| bytes[6..12] == i.mac) {
            None
        } else {
            let addressed = fib.interfaces().iter().find(|i| bytes[..6] == i.mac);
            addressed.or_else(|| towards_source(&bytes, fib))
        };
        let mtu = interface.map_or(0, |i| i.mtu as usize);
        Self {
            after_ns,
            port: interface.map(|i| i.port),
            offload: offload(&bytes, mtu),
            bytes,
        }
    }
}

/// Whether the frame has no MAC addresses, since it was never on a wire. Too short ones have none either.
fn is_made_up(bytes: &[u8]) -> bool {
    bytes.len() < ETH_LEN || bytes[..12].iter().all(|b| *b == 0)
}

/// The way back to the packet's source, from where it goes.
fn way_back(bytes: &[u8], fib: &Fib) -> Option<NextHop> {
    let address = |at: usize| {
        let bytes = bytes.get(ETH_LEN + at..ETH_LEN + at + 4)?;
        Some(Addr::v4(bytes.try_into().ok()?))
    };
    fib.lookup(Query::to(address(12)?).from(address(16)?)).ok()
}

/// The interface that the packet's source is reached by, else the first.
fn towards_source<'a>(bytes: &[u8], fib: &'a Fib) -> Option<&'a Interface> {
    let port = way_back(bytes, fib).map(|hop| hop.port);
    port.and_then(|port| fib.interface(port))
        .or_else(|| fib.interfaces().first())
}

/// Fills the MAC addresses in: to the director, from the next hop towards the source.
fn address(bytes: &mut [u8], interface: &Interface, fib: &Fib) {
    if bytes.len() < ETH_LEN + IPV4_MIN_HEADER {
        return;
    }
    bytes[..6].copy_from_slice(&interface.mac);
    let known = way_back(bytes, fib).and_then(|hop| hop.mac);
    // A locally administered address, where the sender's is not known.
    bytes[6..12].copy_from_slice(&known.unwrap_or([2, 0, 0, 0, 0, 0]));
}

/// A TCP packet longer than its link can carry was captured before it was cut, or after several were put
/// together: the engine gets it as the super-frame it was.
fn offload(bytes: &[u8], mtu: usize) -> Offload {
    let Some(ip) = bytes
        .get(ETH_LEN..)
        .filter(|ip| ip.len() > mtu && ip.len() >= IPV4_MIN_HEADER)
    else {
        return Offload::default();
    };
    let header = usize::from(ip[0] & 0x0f) * 4;
    let Some(l4) = ip.get(header..).filter(|l4| ip[9] == TCP && l4.len() >= 20) else {
        return Offload::default();
    };
    let headers = header + usize::from(l4[12] >> 4) * 4;
    Offload {
        csum_start: Some((ETH_LEN + header) as u16),
        csum_offset: TCP_CHECKSUM,
        gso: Gso::TcpV4 { ecn: false },
        gso_size: mtu.saturating_sub(headers) as u16,
        hdr_len: (ETH_LEN + headers) as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_control::trace::flow::{Flags, endpoint, frame};
    use uvs_core::fib::{Hop, ReversePath, Route, Target};
    use uvs_core::flow::Protocol;

    fn fib() -> Fib {
        let mut fib = Fib::new();
        for (port, ifindex, net) in [(0, 2, [10, 0, 0, 0]), (1, 3, [10, 0, 1, 0])] {
            fib.set_interface(Interface {
                port: PortId(port),
                ifindex,
                mac: [2, 0, 0, 0, 0, ifindex as u8],
                mtu: 1500,
                up: true,
                reverse_path: ReversePath::Off,
            });
            let hop = Target::Hop(Hop::by(ifindex, None));
            fib.add_route(Route::new(Addr::v4(net), 24, hop));
        }
        fib
    }

    fn syn(from: &str) -> Vec<u8> {
        let end = |text| endpoint(text).expect("an endpoint");
        frame(Protocol::Tcp, end(from), end("10.0.0.100:80"), Flags(2))
    }

    #[test]
    fn a_made_up_packet_comes_from_where_its_source_is() {
        let arrival = Arrival::new(0, syn("10.0.1.7:1000"), &fib());
        assert_eq!(arrival.port, Some(PortId(1)));
        assert_eq!(arrival.bytes[..6], [2, 0, 0, 0, 0, 3]);
        assert_eq!(arrival.offload, Offload::default());
    }

    #[test]
    fn a_captured_frame_comes_in_where_it_was_sent_to_unless_the_director_sent_it() {
        let mut bytes = syn("10.0.1.7:1000");
        bytes[..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        bytes[6..12].copy_from_slice(&[4; 6]);
        assert_eq!(Arrival::new(0, bytes.clone(), &fib()).port, Some(PortId(0)));
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        assert_eq!(Arrival::new(0, bytes, &fib()).port, None);
    }

    #[test]
    fn a_packet_longer_than_the_link_is_a_super_frame() {
        let mut bytes = syn("10.0.1.7:1000");
        bytes.resize(5000, 0);
        let arrival = Arrival::new(0, bytes, &fib());
        assert_eq!(arrival.offload.gso, Gso::TcpV4 { ecn: false });
        assert_eq!(arrival.offload.gso_size, 1460);
    }
}
