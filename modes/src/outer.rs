//! The outer IP header of a tunnel, as Linux's `ip_vs_tunnel_xmit` makes it.
//!
//! TTL and TOS are the inner packet's, but CE becomes ECT(0) outside (RFC 6040 §4.1, compatibility of the
//! encapsulator aside); DF is copied, and then there is no identification.

use uvs_core::frame::Frame;
use uvs_core::mode::Path;
use uvs_core::verdict::DropReason;
use uvs_core::wire::{ethernet, ipv4};

/// Bytes of the outer IP header.
pub(crate) const IP: usize = ipv4::MIN_LEN;
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
    let len = frame.len() - ethernet::LEN + IP + shim;
    let len = u16::try_from(len).map_err(|_| DropReason::Oversized)?;
    frame.open_gap(IP + shim)?;
    let (outer, rest) = frame.bytes_mut()[ethernet::LEN..].split_at_mut(IP);
    let inner = ipv4::Header::new(&rest[shim..]);
    let dont_fragment = path.copy_df && inner.dont_fragment();
    let header = ipv4::Repr {
        tos: outer_tos(inner.tos()),
        total_len: len,
        id: if dont_fragment { 0 } else { path.ip_id },
        dont_fragment,
        ttl: inner.ttl(),
        protocol,
        src,
        dst,
    };
    header.emit(outer);
    Ok(Ends { src, dst })
}

fn outer_tos(inner: u8) -> u8 {
    match inner & ECN {
        CE => inner & !ECN | ECT_0,
        _ => inner,
    }
}
