//! Finds a ring that the kernel has stopped filling.
//!
//! Kernels without a fix of 2026 do that for good when a frame comes that they cannot describe
//! ([`undescribed`](crate::port::undescribed)): from then on they drop every frame of the socket, though each slot
//! is free. Nothing else looks like that: where a ring is full it is not empty, and where frames are dropped for a
//! burst, frames were received too.

/// What the looks at one ring have shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StallWatch {
    received: u64,
    dropped: u64,
    suspicious: bool,
}

impl StallWatch {
    /// Looks at a ring: whether it is empty, and the frames that it received and that were dropped since it was
    /// made. `true` = it has stopped.
    ///
    /// The look at which frames were dropped and none received may have been preceded by a burst that filled the
    /// ring and was taken from it since. Where the next look with drops shows the same, it began with an empty ring.
    pub(super) fn look(&mut self, is_empty: bool, received: u64, dropped: u64) -> bool {
        let came = received > self.received;
        let lost = dropped > self.dropped;
        (self.received, self.dropped) = (received, dropped);
        if came || !is_empty {
            self.suspicious = false;
            return false;
        }
        let again = lost && self.suspicious;
        self.suspicious |= lost;
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of these looks finds the ring stopped: whether it is empty, received, dropped.
    fn found(looks: &[(bool, u64, u64)]) -> Option<usize> {
        let mut watch = StallWatch::default();
        let mut looks = looks.iter();
        looks.position(|(is_empty, received, dropped)| watch.look(*is_empty, *received, *dropped))
    }

    #[test]
    fn a_ring_that_drops_twice_while_it_is_empty_has_stopped() {
        assert_eq!(found(&[(true, 5, 1), (true, 5, 2), (true, 5, 3)]), Some(2));
        // Nothing at all may come in between.
        let slow = [(true, 5, 0), (true, 5, 1), (true, 5, 1), (true, 5, 2)];
        assert_eq!(found(&slow), Some(3));
    }

    #[test]
    fn a_burst_that_fills_the_ring_is_no_stall() {
        // The worker took everything between two looks, and nothing came since.
        assert_eq!(
            found(&[(true, 9000, 50), (true, 9000, 60), (true, 9000, 60)]),
            None
        );
        // It is behind.
        assert_eq!(
            found(&[(false, 8192, 50), (false, 8192, 90), (false, 8192, 95)]),
            None
        );
        let alternating = [
            (true, 1, 1),
            (true, 1, 2),
            (true, 2, 2),
            (true, 2, 3),
            (true, 3, 4),
        ];
        assert_eq!(found(&alternating), None);
    }

    #[test]
    fn a_frame_that_the_kernel_alone_drops_is_no_stall() {
        assert_eq!(
            found(&[(true, 5, 0), (true, 5, 1), (true, 6, 1), (true, 6, 2)]),
            None
        );
    }
}
