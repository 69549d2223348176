//! Finds a ring that the kernel has stopped filling.
//!
//! Kernels without a fix of 2026 do that for good when a frame comes that they cannot describe
//! ([`undescribed`](crate::port::undescribed)): from then on they drop every frame of the socket, though each slot
//! is free.

/// What the last look at a ring has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StallWatch {
    was_empty: bool,
    received: u64,
    dropped: u64,
}

impl StallWatch {
    /// Of a ring that was just made.
    pub(super) const fn new() -> Self {
        Self {
            was_empty: true,
            received: 0,
            dropped: 0,
        }
    }

    /// Looks at a ring: whether it is empty, and the frames that it received and that were dropped since it was
    /// made. `true` = it has stopped, or nothing came since the last look but what the kernel cannot describe.
    ///
    /// A ring that was empty, has received nothing since, and dropped frames all the same, was never full.
    pub(super) fn look(&mut self, is_empty: bool, received: u64, dropped: u64) -> bool {
        let idle = self.was_empty && is_empty && received == self.received;
        let lost = dropped > self.dropped;
        (self.was_empty, self.received, self.dropped) = (is_empty, received, dropped);
        idle && lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these looks finds the ring stopped: whether it is empty, received, dropped.
    fn found(looks: &[(bool, u64, u64)]) -> Option<usize> {
        let mut watch = StallWatch::new();
        let mut looks = looks.iter();
        looks.position(|(is_empty, received, dropped)| watch.look(*is_empty, *received, *dropped))
    }

    #[test]
    fn a_ring_that_drops_while_it_is_empty_has_stopped() {
        assert_eq!(found(&[(true, 5, 0), (true, 5, 0), (true, 5, 3)]), Some(2));
        // The frame that stopped it may come among others, and nothing for a while after it.
        let slow = [(true, 5, 1), (true, 5, 1), (true, 5, 1), (true, 5, 2)];
        assert_eq!(found(&slow), Some(3));
        // As the first one of all.
        assert_eq!(found(&[(true, 0, 1)]), Some(0));
    }

    #[test]
    fn a_burst_that_fills_the_ring_is_no_stall() {
        // The worker took everything between two looks, and nothing came since.
        let taken = [(true, 9000, 50), (true, 18000, 60), (true, 18000, 60)];
        assert_eq!(found(&taken), None);
        // It is behind, and takes the rest before the next look.
        let behind = [
            (false, 8192, 50),
            (false, 8192, 90),
            (true, 8192, 95),
            (true, 8192, 95),
        ];
        assert_eq!(found(&behind), None);
    }

    #[test]
    fn a_frame_that_the_kernel_alone_drops_among_others_is_no_stall() {
        assert_eq!(found(&[(true, 5, 0), (true, 6, 1), (true, 7, 2)]), None);
    }
}
