//! The `virtio_net_hdr` that a packet socket and a TUN device put before each packet: what is left of its
//! checksum and its segmentation to do (virtio 1.2 §5.1.6, without num_buffers).

/// Its bytes.
pub(super) const VNET_LEN: usize = 10;
/// The checksum is unfinished.
pub(super) const NEEDS_CSUM: u8 = 1;

/// Offload metadata that contradict the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contradiction;

/// A `virtio_net_hdr`; the kernel's sockets and TUN devices have it in host order.
pub(super) struct Vnet {
    pub(super) flags: u8,
    pub(super) gso_type: u8,
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

impl Vnet {
    pub(super) fn read(b: &[u8]) -> Self {
        let word = |at: usize| u16::from_ne_bytes([b[at], b[at + 1]]);
        // DATA_VALID says that a checksum was verified; the inner one was not.
        let flags = b[0] & NEEDS_CSUM;
        Self {
            flags,
            gso_type: b[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        }
    }

    pub(super) fn bytes(&self) -> [u8; VNET_LEN] {
        let mut b = [0; VNET_LEN];
        b[0] = self.flags;
        b[1] = self.gso_type;
        b[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        b[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        b[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        b[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        b
    }

    /// The same for the packet without its first `removed` bytes, of which one with an IP header of `header` and
    /// `total` bytes is left.
    pub(super) fn strip(
        &mut self,
        removed: usize,
        header: usize,
        total: usize,
    ) -> Result<(), Contradiction> {
        let removed = u16::try_from(removed).map_err(|_| Contradiction)?;
        self.hdr_len = self.hdr_len.saturating_sub(removed);
        if self.flags & NEEDS_CSUM == 0 {
            (self.csum_start, self.csum_offset) = (0, 0);
            return Ok(());
        }
        self.csum_start = self.csum_start.checked_sub(removed).ok_or(Contradiction)?;
        let field = usize::from(self.csum_start) + usize::from(self.csum_offset);
        if usize::from(self.csum_start) < header || field + 2 > total {
            return Err(Contradiction);
        }
        Ok(())
    }
}
