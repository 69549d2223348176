//! IPv4 options as a host on the way treats them (RFC 791 §3.1, Linux `ip_options.c`): the director
//! writes its address into a record route, and takes no source-routed packets.

use crate::packet::IPV4_MIN_HEADER;
use crate::verdict::DropReason;

const END: u8 = 0;
const NO_OP: u8 = 1;
const RECORD_ROUTE: u8 = 7;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Walks the options of an IPv4 header and records `addr` where the packet asks for it; the caller seals
/// the header. Returns whether anything changed.
///
/// # Errors
/// Options that lie about their length, or a source route.
pub fn pass(header: &mut [u8], addr: [u8; 4]) -> Result<bool, DropReason> {
    let mut changed = false;
    let mut at = IPV4_MIN_HEADER;
    while at < header.len() {
        let len = match header[at] {
            END => break,
            NO_OP => 1,
            _ => usize::from(*header.get(at + 1).ok_or(DropReason::BadIpHeader)?),
        };
        if len == 0 || at + len > header.len() || (len == 1 && header[at] != NO_OP) {
            return Err(DropReason::BadIpHeader);
        }
        match header[at] {
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(DropReason::SourceRoute),
            RECORD_ROUTE => changed |= record(&mut header[at..at + len], addr)?,
            _ => {}
        }
        at += len;
    }
    Ok(changed)
}

/// The pointer counts from 1 and begins after type, length and itself; a full record stays as it is.
fn record(option: &mut [u8], addr: [u8; 4]) -> Result<bool, DropReason> {
    let pointer = usize::from(*option.get(2).ok_or(DropReason::BadIpHeader)?);
    if pointer < 4 {
        return Err(DropReason::BadIpHeader);
    }
    if pointer > option.len() {
        return Ok(false);
    }
    let place = option
        .get_mut(pointer - 1..pointer + 3)
        .ok_or(DropReason::BadIpHeader)?;
    place.copy_from_slice(&addr);
    option[2] += 4;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(options: &[u8]) -> Vec<u8> {
        let mut h = vec![0; IPV4_MIN_HEADER];
        h.extend_from_slice(options);
        h
    }

    #[test]
    fn a_route_is_recorded_until_it_is_full() {
        let mut h = header(&[7, 7, 4, 0, 0, 0, 0, 0]);
        assert_eq!(pass(&mut h, [10, 0, 1, 100]), Ok(true));
        assert_eq!(h[20..], [7, 7, 8, 10, 0, 1, 100, 0]);
        assert_eq!(pass(&mut h, [1, 1, 1, 1]), Ok(false));
    }

    #[test]
    fn lies_and_source_routes_are_refused() {
        for lie in [
            &[7, 0, 4, 0][..],
            &[7, 9, 4, 0],
            &[7, 1, 4, 0],
            &[7, 7, 3, 0, 0, 0, 0, 0],
            &[7, 7, 5, 0, 0, 0, 0, 0],
            &[1, 1, 1, 68],
        ] {
            assert_eq!(
                pass(&mut header(lie), [1; 4]),
                Err(DropReason::BadIpHeader),
                "{lie:?}"
            );
        }
        assert_eq!(
            pass(&mut header(&[131, 7, 4, 1, 1, 1, 1, 0]), [1; 4]),
            Err(DropReason::SourceRoute)
        );
    }
}
