//! The ports, which TCP, UDP and SCTP all begin with.

/// Bytes of both.
pub const LEN: usize = 4;

header! {
    /// A transport header as far as it is the same in TCP, UDP and SCTP.
    pub struct Ports[LEN], offset;
    /// Source port.
    pub SRC => src, set_src: u16 = 0;
    /// Destination port.
    pub DST => dst, set_dst: u16 = 2;
}
