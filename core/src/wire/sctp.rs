//! SCTP (RFC 9260 §3): a common header, then chunks.

use super::checksum;

/// Bytes of the common header.
pub const LEN: usize = 12;
/// Bytes of a chunk's header.
pub const CHUNK_LEN: usize = 4;

/// Chunk types (RFC 9260 §3.2).
pub mod chunk {
    /// User data.
    pub const DATA: u8 = 0;
    /// Begins an association.
    pub const INIT: u8 = 1;
    /// Answers [`INIT`].
    pub const INIT_ACK: u8 = 2;
    /// Ends an association at once.
    pub const ABORT: u8 = 6;
    /// No more data from the sender.
    pub const SHUTDOWN: u8 = 7;
    /// Answers [`SHUTDOWN`].
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Something was wrong.
    pub const ERROR: u8 = 9;
    /// Gives the cookie back.
    pub const COOKIE_ECHO: u8 = 10;
    /// The cookie was right.
    pub const COOKIE_ACK: u8 = 11;
    /// The association has ended.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

header! {
    /// An SCTP common header.
    pub struct Header[LEN], offset;
    /// Source port.
    pub SRC_PORT => src_port, set_src_port: u16 = 0;
    /// Destination port.
    pub DST_PORT => dst_port, set_dst_port: u16 = 2;
    /// Verification tag: the association, as its receiver named it.
    pub TAG => tag, set_tag: u32 = 4;
    /// CRC32c over the whole packet, as `seal` writes it.
    pub CHECKSUM => checksum, set_checksum: [u8; 4] = 8;
}

header! {
    /// A chunk's header.
    pub struct Chunk[CHUNK_LEN], chunk_offset;
    /// Type, of `chunk`.
    pub KIND => kind, set_kind: u8 = 0;
    /// Flags, by type.
    pub FLAGS => flags, set_flags: u8 = 1;
    /// Bytes of the chunk with this header, without padding.
    pub LENGTH => length, set_length: u16 = 2;
}

/// The headers of the chunks that follow the common header of `packet`, up to the first that is cut off or says
/// that it is shorter than its own header.
pub fn chunks(packet: &[u8]) -> impl Iterator<Item = Chunk<&[u8; CHUNK_LEN]>> {
    let mut rest = packet.get(LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        let chunk = Chunk::new_checked(rest).ok()?;
        let length = usize::from(chunk.length());
        let after = rest.get(length.next_multiple_of(4)..);
        rest = after.filter(|_| length >= CHUNK_LEN).unwrap_or_default();
        Some(chunk)
    })
}

/// Writes the checksum of a whole packet (RFC 9260 appendix A).
///
/// # Panics
/// Where it is shorter than [`LEN`].
pub fn seal(packet: &mut [u8]) {
    Header::new_mut(packet).set_checksum([0; 4]);
    let crc = checksum::crc32c(packet);
    Header::new_mut(packet).set_checksum(crc.to_le_bytes());
}
