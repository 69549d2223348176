//! Hop-by-hop options (RFC 8200 §4.2, §4.3) as a host on the way treats them (Linux `ip6_parse_tlv` in
//! net/ipv6/exthdrs.c): it passes over what it knows and what lets itself be passed over, and refuses the rest.

use super::{EXTENSION_LEN, Extension, Header, LEN};
use crate::wire::Malformed;

const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
const ROUTER_ALERT: u8 = 5;
const JUMBO: u8 = 0xc2;

/// What is to be done by who does not know an option, in its type's two highest bits (RFC 8200 §4.2).
mod action {
    pub(super) const MASK: u8 = 0xc0;
    pub(super) const SKIP: u8 = 0x00;
    pub(super) const DISCARD: u8 = 0x40;
}

/// Padding longer than this in one place means nothing, and is refused as a covert channel.
const MAX_PADDING: usize = 7;
/// Options beside padding that are looked at (net.ipv6.max_hbh_opts_number).
const MAX_OPTIONS: usize = 8;

/// Why a packet goes no further for its hop-by-hop options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Their lengths contradict each other, they are too many or only padding, or one says to discard it.
    Discard,
    /// One asks that its sender be told that it is not known.
    Unknown {
        /// Where it begins, bytes from the IPv6 header's first.
        at: usize,
    },
    /// One says what cannot be, and its sender is told.
    Erroneous {
        /// Where what it says begins, bytes from the IPv6 header's first.
        at: usize,
    },
    /// It is a jumbogram (RFC 2675), which no link here carries.
    Jumbogram,
}

impl From<Malformed> for Refusal {
    fn from(_: Malformed) -> Self {
        Self::Discard
    }
}

/// Looks through the hop-by-hop options of a packet whose first extension header they are and whose extension
/// headers are whole.
///
/// # Errors
/// What a [`Refusal`] says.
pub fn check(packet: &[u8]) -> Result<(), Refusal> {
    let header = packet.get(LEN..).ok_or(Malformed::Truncated)?;
    let length = usize::from(Extension::new_checked(header)?.length());
    let end = LEN + EXTENSION_LEN + length * 8;
    let options = packet.get(..end).ok_or(Malformed::Truncated)?;
    // Behind "next header" and "length".
    let mut at = LEN + 2;
    let (mut padding, mut others) = (0, 0);
    while let Some(kind) = options.get(at) {
        let len = match *kind {
            PAD_1 => 1,
            _ => 2 + usize::from(*options.get(at + 1).ok_or(Malformed::Truncated)?),
        };
        let option = options.get(at..at + len).ok_or(Malformed::Truncated)?;
        match *kind {
            PAD_1 | PAD_N => {
                padding += len;
                // What padding holds is to be 0 (RFC 4942 §2.1.9.5).
                let silent = option.iter().skip(2).all(|byte| *byte == 0);
                if padding > MAX_PADDING || !silent {
                    return Err(Refusal::Discard);
                }
            }
            _ => {
                (padding, others) = (0, others + 1);
                if others > MAX_OPTIONS {
                    return Err(Refusal::Discard);
                }
                judge(option, at, Header::new(packet).payload_len())?;
            }
        }
        at += len;
    }
    // Padding alone is fine; an option that reaches beyond the header was found above.
    Ok(())
}

/// What an option that is no padding makes of a packet whose header says that it has `payload_len` bytes.
fn judge(option: &[u8], at: usize, payload_len: u16) -> Result<(), Refusal> {
    match *option {
        [ROUTER_ALERT, _, _, _] => Ok(()),
        [ROUTER_ALERT, ..] => Err(Refusal::Discard),
        [JUMBO, _, a, b, c, d] if at % 4 == 2 => {
            let len = u32::from_be_bytes([a, b, c, d]);
            Err(match payload_len {
                _ if len <= u32::from(u16::MAX) => Refusal::Erroneous { at: at + 2 },
                0 => Refusal::Jumbogram,
                _ => Refusal::Erroneous { at },
            })
        }
        [JUMBO, ..] => Err(Refusal::Discard),
        [kind, ..] => match kind & action::MASK {
            action::SKIP => Ok(()),
            action::DISCARD => Err(Refusal::Discard),
            _ => Err(Refusal::Unknown { at }),
        },
        [] => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these options in a hop-by-hop header, padded to its end.
    fn packet(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        let len = (2 + options.len()).next_multiple_of(8);
        bytes.extend([6, crate::narrow::to_u8(len / 8 - 1)]);
        bytes.extend(options);
        match LEN + len - bytes.len() {
            0 => {}
            1 => bytes.push(PAD_1),
            n => {
                bytes.extend([PAD_N, crate::narrow::to_u8(n - 2)]);
                bytes.resize(LEN + len, 0);
            }
        }
        bytes
    }

    #[test]
    fn what_is_known_or_may_be_skipped_passes() {
        for options in [
            &[][..],
            &[1, 4, 0, 0, 0, 0],
            &[5, 2, 0, 0],
            &[0x1e, 3, 1, 2, 3],
            &[0; 6],
        ] {
            assert_eq!(check(&packet(options)), Ok(()), "{options:?}");
        }
    }

    #[test]
    fn what_asks_for_an_error_is_told_where_it_is() {
        let unknown = |at| Err(Refusal::Unknown { at });
        assert_eq!(check(&packet(&[0x80, 0])), unknown(LEN + 2));
        assert_eq!(check(&packet(&[0, 0, 0xc0, 1, 7])), unknown(LEN + 4));
    }

    #[test]
    fn a_jumbogram_is_none_that_has_a_length_as_well() {
        let mut jumbo = packet(&[JUMBO, 4, 0, 1, 0, 0]);
        assert_eq!(check(&jumbo), Err(Refusal::Jumbogram));
        Header::new_mut(&mut jumbo).set_payload_len(8);
        let erroneous = |at| Err(Refusal::Erroneous { at });
        assert_eq!(check(&jumbo), erroneous(LEN + 2));
        let small = packet(&[JUMBO, 4, 0, 0, 0xff, 0xff]);
        assert_eq!(check(&small), erroneous(LEN + 4));
        let shifted = packet(&[0, JUMBO, 4, 0, 1, 0, 0]);
        assert_eq!(check(&shifted), Err(Refusal::Discard));
    }

    #[test]
    fn contradictions_and_covert_channels_are_discarded() {
        for options in [
            &[0x40, 0][..],
            &[5, 1, 0],
            &[1, 2, 0, 9],
            &[0, 0, 0, 0, 0, 0, 0, 0],
            &[
                0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0, 0x1e, 0,
            ],
        ] {
            assert_eq!(
                check(&packet(options)),
                Err(Refusal::Discard),
                "{options:?}"
            );
        }
        // One that reaches beyond its header.
        let mut cut = packet(&[0x1e, 4, 0, 0, 0, 0]);
        cut[LEN + 3] = 5;
        assert_eq!(check(&cut), Err(Refusal::Discard));
        assert_eq!(check(&cut[..LEN + 4]), Err(Refusal::Discard));
    }
}
