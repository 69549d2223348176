//! Finds a ring that the kernel has stopped filling.
//!
//! Kernels without a fix of 2026 do that for good when a frame comes that they cannot describe
//! ([`undescribed`](crate::port::undescribed)): from then on they drop every frame of the socket, though each slot
//! is free.

/// What the last look at a ring has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StallWatch {
    slots: u64,
    was_empty: bool,
    received: u64,
    dropped: u64,
    /// Frames were dropped that no full ring explains, and no frame has been received since the look that saw it.
    suspicious: bool,
}

impl StallWatch {
    /// Of a ring with so many slots that was just made.
    pub(super) const fn new(slots: usize) -> Self {
        Self {
            slots: slots as u64,
            was_empty: true,
            received: 0,
            dropped: 0,
            suspicious: false,
        }
    }

    /// Looks at a ring: whether it is empty, and the frames that it received and that were dropped since it was
    /// made. `true` = it has stopped, or nothing came since the last look but what the kernel cannot describe.
    ///
    /// A ring that was empty and has received fewer frames since than it has slots was never full. What was dropped
    /// all the same may have stopped it, and has where nothing is received any more.
    pub(super) fn look(&mut self, is_empty: bool, received: u64, dropped: u64) -> bool {
        let came = received.saturating_sub(self.received);
        let unexplained = dropped > self.dropped && self.was_empty && came < self.slots;
        let silent = is_empty && came == 0;
        let stopped = silent && (self.suspicious || unexplained);
        self.suspicious = unexplained && !silent;
        (self.was_empty, self.received, self.dropped) = (is_empty, received, dropped);
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these looks at a ring of 100 slots finds it stopped: whether it is empty, received, dropped.
    fn found(looks: &[(bool, u64, u64)]) -> Option<usize> {
        let mut watch = StallWatch::new(100);
        let mut looks = looks.iter();
        looks.position(|(is_empty, received, dropped)| watch.look(*is_empty, *received, *dropped))
    }

    #[test]
    fn a_ring_that_drops_while_it_is_empty_has_stopped() {
        assert_eq!(found(&[(true, 5, 0), (true, 5, 0), (true, 5, 3)]), Some(2));
        // As the first frame of all.
        assert_eq!(found(&[(true, 0, 1)]), Some(0));
    }

    #[test]
    fn a_ring_that_drops_among_frames_and_is_silent_then_has_stopped() {
        assert_eq!(found(&[(true, 5, 1), (true, 5, 1)]), Some(1));
        assert_eq!(found(&[(true, 5, 1), (true, 5, 2)]), Some(1));
    }

    #[test]
    fn a_ring_that_was_full_has_not_stopped() {
        // The worker took everything between two looks, and nothing came since.
        assert_eq!(
            found(&[(true, 900, 50), (true, 1800, 60), (true, 1800, 60)]),
            None
        );
        // It is behind, and takes the rest before the next look.
        let behind = [
            (false, 100, 50),
            (false, 100, 90),
            (true, 100, 95),
            (true, 100, 95),
        ];
        assert_eq!(found(&behind), None);
    }

    #[test]
    fn a_ring_that_goes_on_receiving_has_not_stopped() {
        let one_at_a_time = [
            (true, 5, 0),
            (true, 6, 1),
            (true, 7, 2),
            (true, 8, 2),
            (true, 8, 2),
        ];
        assert_eq!(found(&one_at_a_time), None);
    }
}
