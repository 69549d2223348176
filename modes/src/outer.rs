//! The outer IP header of a tunnel, as Linux's `ip_vs_tunnel_xmit` makes it.
//!
//! TTL and TOS are the inner packet's, but CE becomes ECT(0) outside (RFC 6040 §4.1, compatibility of the
//! encapsulator aside); DF is copied, and then there is no identification.

use uvs_core::frame::Frame;
use uvs_core::mode::Path;
use uvs_core::service::OUTER_HEADER;
use uvs_core::verdict::DropReason;
use uvs_core::wire::{ethernet, ipv4};

/// ECN's bits in the TOS (RFC 3168 §5).
const ECN: u8 = 0x03;
const CE: u8 = 0x03;
const ECT_0: u8 = 0x02;

/// Opens room for the tunnel's headers, writes the outer IP header and returns what it says.
///
/// # Errors
/// The frame has no headroom left, or becomes longer than an IP packet may be.
pub(crate) fn wrap(
    frame: &mut Frame<'_>,
    path: &Path,
    protocol: u8,
) -> Result<ipv4::Repr, DropReason> {
    let (Some(src), Some(dst)) = (path.tunnel_source.as_v4(), path.server.addr.as_v4()) else {
        return Err(DropReason::NoRoute);
    };
    let len = frame.len() - ethernet::LEN + path.tunnel.overhead();
    let len = u16::try_from(len).map_err(|_| DropReason::Oversized)?;
    frame.open_gap(path.tunnel.overhead())?;
    let (outer, rest) = frame.bytes_mut()[ethernet::LEN..].split_at_mut(OUTER_HEADER);
    let inner = ipv4::Header::new(&rest[path.tunnel.header()..]);
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
    Ok(header)
}

fn outer_tos(inner: u8) -> u8 {
    match inner & ECN {
        CE => inner & !ECN | ECT_0,
        _ => inner,
    }
}
