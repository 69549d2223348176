//! How a frame that was written down or made up would come in: by which port, and as what kind of frame.

use uvs_core::fib::{Fib, Interface, NextHop, Query};
use uvs_core::flow::Family;
use uvs_core::frame::{Gso, Offload};
use uvs_core::glance::Glance;
use uvs_core::verdict::PortId;
use uvs_core::wire::{ethernet, protocol, tcp};

/// A locally administered address, where the sender's is not known.
const SOME_SENDER: ethernet::Mac = [2, 0, 0, 0, 0, 0];

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
        let interface = match addresses(&bytes) {
            None => {
                let interface = towards_source(&bytes, fib);
                if let Some(interface) = interface {
                    address(&mut bytes, interface, fib);
                }
                interface
            }
            Some((_, src)) if fib.interfaces().iter().any(|i| src == i.mac) => None,
            Some((dst, _)) => {
                let addressed = fib.interfaces().iter().find(|i| dst == i.mac);
                addressed.or_else(|| towards_source(&bytes, fib))
            }
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

/// The frame's MAC addresses, destination and source; `None` where it has none, since it was never on a wire.
/// Too short ones have none either.
fn addresses(bytes: &[u8]) -> Option<(ethernet::Mac, ethernet::Mac)> {
    let header = ethernet::Header::new_checked(bytes).ok()?;
    let both = (header.dst(), header.src());
    (both != ([0; 6], [0; 6])).then_some(both)
}

/// The way back to the packet's source, from where it goes.
fn way_back(bytes: &[u8], fib: &Fib) -> Option<NextHop> {
    let seen = Glance::of_frame(bytes)?;
    let query = Query::to(seen.src).from(seen.dst);
    fib.lookup(query).ok()
}

/// The interface that the packet's source is reached by, else the first.
fn towards_source<'a>(bytes: &[u8], fib: &'a Fib) -> Option<&'a Interface> {
    let port = way_back(bytes, fib).map(|hop| hop.port);
    port.and_then(|port| fib.interface(port))
        .or_else(|| fib.interfaces().first())
}

/// Fills the MAC addresses in: to the director, from the next hop towards the source.
fn address(bytes: &mut [u8], interface: &Interface, fib: &Fib) {
    if Glance::of_frame(bytes).is_none() {
        return;
    }
    let known = way_back(bytes, fib).and_then(|hop| hop.mac);
    let mut header = ethernet::Header::new_mut(bytes);
    header.set_dst(interface.mac);
    header.set_src(known.unwrap_or(SOME_SENDER));
}

/// A TCP packet longer than its link can carry was captured before it was cut, or after several were put
/// together: the engine gets it as the super-frame it was.
fn offload(bytes: &[u8], mtu: usize) -> Offload {
    super_frame(bytes, mtu).unwrap_or_default()
}

fn super_frame(bytes: &[u8], mtu: usize) -> Option<Offload> {
    bytes.get(ethernet::LEN..).filter(|ip| ip.len() > mtu)?;
    let seen = Glance::of_frame(bytes)?;
    if seen.protocol != protocol::TCP {
        return None;
    }
    let l4 = ethernet::LEN + seen.l4?;
    let segment = tcp::Header::new_checked(bytes.get(l4..)?).ok()?;
    let headers = l4 + segment.header_len();
    let gso = match seen.src.family() {
        Family::V4 => Gso::TcpV4 { ecn: false },
        Family::V6 => Gso::TcpV6 { ecn: false },
    };
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    Some(Offload {
        csum_start: Some(short(l4)),
        csum_offset: short(tcp::offset::CHECKSUM),
        gso,
        gso_size: short((ethernet::LEN + mtu).saturating_sub(headers)),
        hdr_len: short(headers),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_control::trace::flow::{Content, Flags, endpoint, frame};
    use uvs_core::fib::{Hop, ReversePath, Route, Target};
    use uvs_core::flow::Addr;

    fn fib() -> Fib {
        let mut fib = Fib::new();
        for (port, ifindex, net) in [(0, 2, [10, 0, 0, 0]), (1, 3, [10, 0, 1, 0])] {
            fib.set_interface(Interface {
                port: PortId(port),
                ifindex: ifindex.into(),
                mac: [2, 0, 0, 0, 0, ifindex],
                mtu: 1500,
                up: true,
                reverse_path: ReversePath::Off,
            });
            let hop = Target::Hop(Hop::by(ifindex.into(), None));
            fib.add_route(Route::new(Addr::v4(net), 24, hop));
            let six = std::net::Ipv6Addr::new(0x2001, 0xdb8, net[2].into(), 0, 0, 0, 0, 0);
            let hop = Target::Hop(Hop::by(ifindex.into(), None));
            fib.add_route(Route::new(six.into(), 48, hop));
        }
        fib
    }

    fn syn(from: &str) -> Vec<u8> {
        let end = |text| endpoint(text).expect("an endpoint");
        let to = match from.starts_with('[') {
            true => "[2001:db8::100]:80",
            false => "10.0.0.100:80",
        };
        frame(&Content::Tcp(Flags(2)), end(from), end(to))
    }

    #[test]
    fn a_made_up_packet_comes_from_where_its_source_is() {
        for from in ["10.0.1.7:1000", "[2001:db8:1::7]:1000"] {
            let arrival = Arrival::new(0, syn(from), &fib());
            assert_eq!(arrival.port, Some(PortId(1)), "{from}");
            assert_eq!(arrival.bytes[..6], [2, 0, 0, 0, 0, 3], "{from}");
            assert_eq!(arrival.offload, Offload::default(), "{from}");
        }
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
