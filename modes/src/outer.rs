//! The outer IP header of a tunnel, as Linux's `ip_vs_tunnel_xmit` makes it.
//!
//! TTL and TOS are the inner packet's, but CE becomes ECT(0) outside (RFC 6040 §4.1, compatibility of the
//! encapsulator aside); DF is copied, and then there is no identification.

use uvs_core::frame::{ETH_LEN, Frame};
use uvs_core::mode::Path;
use uvs_core::verdict::DropReason;
use uvs_core::wire::checksum;

/// Bytes of the outer IP header.
pub(crate) const IP: usize = 20;
/// Protocol number of IP in IP, which GUE uses too.
pub(crate) const IPIP: u8 = 4;
/// ECN's bits in the TOS (RFC 3168 §5).
const ECN: u8 = 0x03;
const CE: u8 = 0x03;
const ECT_0: u8 = 0x02;

/// The ends of a tunnel.
#[derive(Clone, Copy)]
pub(crate) struct Ends {
    pub(crate) src: [u8; 4],
    pub(crate) dst: [u8; 4],
}

/// Opens room for the outer IP header and `shim` bytes after it, and writes the header.
///
/// # Errors
/// The frame has no headroom left, or becomes longer than an IP packet may be.
pub(crate) fn wrap(
    frame: &mut Frame<'_>,
    path: &Path,
    protocol: u8,
    shim: usize,
) -> Result<Ends, DropReason> {
    let (Some(src), Some(dst)) = (path.tunnel_source.as_v4(), path.server.addr.as_v4()) else {
        return Err(DropReason::NoRoute);
    };
    let len = frame.len() - ETH_LEN + IP + shim;
    let len = u16::try_from(len).map_err(|_| DropReason::Oversized)?;
    frame.open_gap(IP + shim)?;
    let (outer, rest) = frame.bytes_mut()[ETH_LEN..].split_at_mut(IP);
    let inner = &rest[shim..];
    let dont_fragment = path.copy_df && inner[6] & 0x40 != 0;
    outer[0] = 0x45;
    outer[1] = outer_tos(inner[1]);
    outer[2..4].copy_from_slice(&len.to_be_bytes());
    outer[4..6].copy_from_slice(&if dont_fragment { 0 } else { path.ip_id }.to_be_bytes());
    outer[6..8].copy_from_slice(&if dont_fragment { [0x40, 0] } else { [0, 0] });
    outer[8] = inner[8];
    outer[9] = protocol;
    outer[10..12].fill(0);
    outer[12..16].copy_from_slice(&src);
    outer[16..20].copy_from_slice(&dst);
    let sum = checksum::of(outer);
    outer[10..12].copy_from_slice(&sum.to_be_bytes());
    Ok(Ends { src, dst })
}

fn outer_tos(inner: u8) -> u8 {
    match inner & ECN {
        CE => inner & !ECN | ECT_0,
        _ => inner,
    }
}
