//! IPv4 options (RFC 791 §3.1) as a host on the way treats them (Linux `ip_options.c`): it writes its address
//! into a record route, takes no source-routed packets, and leaves out of fragments what is not to be copied.

use std::ops::Range;

use crate::narrow;
use crate::wire::Malformed;

const END: u8 = 0;
const NO_OP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
/// The bit of a type whose option each fragment has.
const COPIED: u8 = 0x80;
/// Where the fields of a record route begin, after type and length: a pointer, then addresses.
const POINTER: usize = 2;
const ROUTE: usize = 3;

/// Why a packet goes no further for its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Their lengths contradict each other.
    Malformed,
    /// It has a route of its own.
    SourceRoute,
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Records `addr` where the options ask for it; the caller seals the header. Returns whether anything changed.
///
/// # Errors
/// What a [`Refusal`] says; what was recorded before stays so.
pub fn pass(options: &mut [u8], addr: [u8; 4]) -> Result<bool, Refusal> {
    let mut changed = false;
    let mut at = 0;
    while let Some(option) = option_at(options, at)? {
        at = option.end;
        match options[option.start] {
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Refusal::SourceRoute),
            RECORD_ROUTE => changed |= record(&mut options[option], addr)?,
            _ => {}
        }
    }
    Ok(changed)
}

/// Turns options that only the first fragment has into no-ops, up to one that is malformed.
pub fn blank_uncopied(options: &mut [u8]) {
    let mut at = 0;
    while let Ok(Some(option)) = option_at(options, at) {
        at = option.end;
        if options[option.start] & COPIED == 0 {
            options[option].fill(NO_OP);
        }
    }
}

/// Where the option lies that begins at `at`; `None` behind the last.
fn option_at(options: &[u8], at: usize) -> Result<Option<Range<usize>>, Malformed> {
    let length = match options.get(at) {
        None | Some(&END) => return Ok(None),
        Some(&NO_OP) => 1,
        Some(_) => match options.get(at + 1) {
            None => return Err(Malformed::Truncated),
            Some(0 | 1) => return Err(Malformed::Header),
            Some(length) => usize::from(*length),
        },
    };
    if at + length > options.len() {
        return Err(Malformed::Truncated);
    }
    Ok(Some(at..at + length))
}

/// The pointer counts from 1 and begins after type, length and itself; a full record stays as it is.
fn record(option: &mut [u8], addr: [u8; 4]) -> Result<bool, Malformed> {
    let pointer = usize::from(*option.get(POINTER).ok_or(Malformed::Truncated)?);
    if pointer <= ROUTE {
        return Err(Malformed::Header);
    }
    if pointer > option.len() {
        return Ok(false);
    }
    let place = option
        .get_mut(pointer - 1..pointer - 1 + addr.len())
        .ok_or(Malformed::Header)?;
    place.copy_from_slice(&addr);
    option[POINTER] += narrow::to_u8(addr.len());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_recorded_until_it_is_full() {
        let mut options = [7, 7, 4, 0, 0, 0, 0, 0];
        assert_eq!(pass(&mut options, [10, 0, 1, 100]), Ok(true));
        assert_eq!(options, [7, 7, 8, 10, 0, 1, 100, 0]);
        assert_eq!(pass(&mut options, [1, 1, 1, 1]), Ok(false));
    }

    #[test]
    fn contradictions_and_source_routes_are_refused() {
        for wrong in [
            &[7, 0, 4, 0][..],
            &[7, 9, 4, 0],
            &[7, 1, 4, 0],
            &[7, 7, 3, 0, 0, 0, 0, 0],
            &[7, 7, 5, 0, 0, 0, 0, 0],
            &[1, 1, 1, 68],
        ] {
            let refused = pass(&mut wrong.to_vec(), [1; 4]);
            assert_eq!(refused, Err(Refusal::Malformed), "{wrong:?}");
        }
        let refused = pass(&mut [131, 7, 4, 1, 1, 1, 1, 0], [1; 4]);
        assert_eq!(refused, Err(Refusal::SourceRoute));
    }

    #[test]
    fn fragments_have_only_what_is_copied() {
        let mut options = [7, 3, 4, 1, 0x94, 4, 0, 0, 7, 9, 4, 0];
        blank_uncopied(&mut options);
        assert_eq!(options, [1, 1, 1, 1, 0x94, 4, 0, 0, 7, 9, 4, 0]);
    }
}
