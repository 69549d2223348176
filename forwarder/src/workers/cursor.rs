//! Where a listing of all workers' connections goes on.

/// A place in a worker's connection table, as one number: who lists does not know how many workers there are.
/// The first worker's places are the numbers from 0 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The worker's number.
    pub(super) worker: u32,
    /// The place.
    pub(super) place: u32,
}

impl From<u64> for Cursor {
    fn from(number: u64) -> Self {
        let [a, b, c, d, place @ ..] = number.to_be_bytes();
        Self {
            worker: u32::from_be_bytes([a, b, c, d]),
            place: u32::from_be_bytes(place),
        }
    }
}

impl From<Cursor> for u64 {
    fn from(cursor: Cursor) -> Self {
        Self::from(cursor.worker) << 32 | Self::from(cursor.place)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_is_a_number(number: u64) {
            prop_assert_eq!(u64::from(Cursor::from(number)), number);
        }
    }

    #[test]
    fn the_first_workers_places_are_plain_numbers() {
        let cursor = Cursor {
            worker: 0,
            place: 4096,
        };
        assert_eq!(u64::from(cursor), 4096);
        assert_eq!(Cursor::default(), Cursor::from(0));
    }
}
