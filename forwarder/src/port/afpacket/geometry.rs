//! How the memory of a receive ring is cut into slots.
//!
//! A slot holds an Ethernet frame; a super-frame is larger and waits in the socket's receive buffer
//! instead, which costs no ring memory. That buffer is small without CAP_NET_ADMIN in the initial
//! namespace: net.core.rmem_max's default holds about five super-frames, and a bulk transfer then loses 2
//! to 4 % of them. In that case slots that hold a super-frame themselves are made, fewer of them: as fast,
//! and nothing is lost, for 64 MB of ring.

use super::PortOptions;

/// Headroom asked for with PACKET_RESERVE, bytes: an outer IPv4 header, or a full set of TCP options.
pub(super) const RESERVE: u8 = 64;
/// Where the kernel puts a frame without RESERVE: the two headers, aligned, an Ethernet header and the
/// virtio_net_hdr (`tpacket_rcv` in the kernel).
const FRAME_AT: usize = 76;
/// Bytes of a block, the unit in which the kernel allocates; slots do not cross its end.
const BLOCK: usize = 1 << 20;
/// Smallest slot: an Ethernet frame, its tag and the headroom.
const MIN_SLOT: usize = 2048;
/// A slot for a super-frame: 64 KiB of IP packet, the Ethernet header, the headroom.
const SUPER_SLOT: usize = 68 << 10;
/// Memory of a ring of such slots; it makes 960.
const SUPER_RING: usize = 64 * BLOCK;
/// Slots at least where a large MTU makes them larger.
const MIN_SLOTS: usize = 2048;
/// A receive buffer that holds some fifty super-frames; below, [`SUPER_SLOT`] is better.
const ENOUGH_BUFFER: usize = 4 << 20;

/// A ring's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Bytes of a slot.
    pub(crate) slot_bytes: usize,
    /// Their number, whole blocks of them.
    pub(crate) slots: usize,
}

impl Geometry {
    /// The shape for an interface; `receive_buffer` bytes are there for what is larger than a slot. The
    /// number of slots asked for is for those of [`MIN_SLOT`], or for the size that is asked for.
    pub(super) fn choose(options: &PortOptions, mtu: u32, receive_buffer: usize) -> Self {
        let slots = options.slots;
        if let Some(bytes) = options.slot_bytes {
            let aligned = bytes
                .clamp(MIN_SLOT, BLOCK)
                .next_multiple_of(libc::TPACKET_ALIGNMENT);
            return Self::whole_blocks(aligned, slots);
        }
        if receive_buffer < ENOUGH_BUFFER {
            return Self::whole_blocks(SUPER_SLOT, SUPER_RING / BLOCK * (BLOCK / SUPER_SLOT));
        }
        let frame = mtu as usize + 18;
        let slot_bytes = (FRAME_AT + usize::from(RESERVE) + frame)
            .next_power_of_two()
            .clamp(MIN_SLOT, 16 << 10);
        let same_memory = slots * MIN_SLOT / slot_bytes;
        Self::whole_blocks(slot_bytes, same_memory.max(slots.min(MIN_SLOTS)))
    }

    fn whole_blocks(slot_bytes: usize, slots: usize) -> Self {
        let slots = slots.max(1).next_multiple_of(BLOCK / slot_bytes);
        Self { slot_bytes, slots }
    }

    /// What PACKET_RX_RING is asked for.
    pub(super) fn request(&self) -> libc::tpacket_req {
        // The kernel refuses what is too much for it, and more than fits is.
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        libc::tpacket_req {
            tp_block_size: number(BLOCK),
            tp_block_nr: number(self.bytes() / BLOCK),
            tp_frame_size: number(self.slot_bytes),
            tp_frame_nr: number(self.slots),
        }
    }

    /// Bytes of the whole ring.
    pub(super) fn bytes(&self) -> usize {
        self.slots / self.per_block() * BLOCK
    }

    /// Where a slot begins.
    pub(super) fn offset(&self, slot: usize) -> usize {
        slot / self.per_block() * BLOCK + slot % self.per_block() * self.slot_bytes
    }

    fn per_block(&self) -> usize {
        BLOCK / self.slot_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: usize = 32 << 20;

    fn choose(mtu: u32, receive_buffer: usize) -> Geometry {
        Geometry::choose(&PortOptions::default(), mtu, receive_buffer)
    }

    #[test]
    fn an_ethernet_port_has_slots_of_2_kb() {
        let g = choose(1500, PLENTY);
        assert_eq!(
            g,
            Geometry {
                slot_bytes: 2048,
                slots: 8192
            }
        );
        assert_eq!(g.bytes(), 16 << 20);
    }

    #[test]
    fn a_jumbo_frame_fits_its_slot_and_the_memory_stays_within_twice() {
        let g = choose(9000, PLENTY);
        assert_eq!(
            g,
            Geometry {
                slot_bytes: 16 << 10,
                slots: 2048
            }
        );
        assert_eq!(g.bytes(), 32 << 20);
    }

    #[test]
    fn a_small_receive_buffer_makes_slots_for_super_frames() {
        let g = choose(1500, 425_984);
        assert_eq!(
            g,
            Geometry {
                slot_bytes: 68 << 10,
                slots: 960
            }
        );
        assert_eq!(g.bytes(), 64 << 20);
    }

    #[test]
    fn what_is_asked_for_is_made_in_whole_blocks() {
        let slots = |slots, slot_bytes| {
            let options = PortOptions {
                slots,
                slot_bytes,
                ..PortOptions::default()
            };
            Geometry::choose(&options, 1500, PLENTY)
        };
        assert_eq!(
            slots(4096, None),
            Geometry {
                slot_bytes: 2048,
                slots: 4096
            }
        );
        assert_eq!(
            slots(1, None),
            Geometry {
                slot_bytes: 2048,
                slots: 512
            }
        );
        assert_eq!(
            slots(100, Some(9999)),
            Geometry {
                slot_bytes: 10_000,
                slots: 104
            }
        );
        assert_eq!(
            slots(1, Some(0)),
            Geometry {
                slot_bytes: 2048,
                slots: 512
            }
        );
    }

    #[test]
    fn slots_lie_apart_and_within_one_block_each() {
        for slot_bytes in [2048, 10_000, 16 << 10, SUPER_SLOT, BLOCK] {
            let g = Geometry::whole_blocks(slot_bytes, 20);
            for slot in 0..g.slots {
                let (start, end) = (g.offset(slot), g.offset(slot) + g.slot_bytes);
                assert_eq!(start / BLOCK, (end - 1) / BLOCK, "slot {slot} of {g:?}");
                assert!(end <= g.bytes());
                assert!(slot == 0 || g.offset(slot - 1) + g.slot_bytes <= start);
            }
        }
    }
}
