//! TCP's options (RFC 9293 §3.2), changed where they stand.

use crate::narrow;

/// The options by their kinds.
pub mod kind {
    /// End of the list.
    pub const END: u8 = 0;
    /// Padding of one byte.
    pub const NOP: u8 = 1;
    /// Maximum segment size, of a SYN (RFC 9293 §3.7.1).
    pub const MSS: u8 = 2;
    /// Selective acknowledgement (RFC 2018 §3).
    pub const SACK: u8 = 5;
    /// Timestamps (RFC 7323 §3.2).
    pub const TIMESTAMPS: u8 = 8;
    /// Multipath TCP (RFC 8684).
    pub const MULTIPATH: u8 = 30;
    /// Fast Open's cookie (RFC 7413 §4.1.1).
    pub const FAST_OPEN: u8 = 34;
    /// The two kinds for experiments (RFC 6994), which say by a number of their own whose they are.
    pub const EXPERIMENTS: [u8; 2] = [253, 254];
}

/// What experiments say that are Fast Open (RFC 7413 appendix A).
pub const EXPERIMENTAL_FAST_OPEN: [u8; 2] = [0xf9, 0x89];
/// Bytes of the longest list of options.
pub const MAX_LEN: usize = super::MAX_LEN - super::MIN_LEN;

/// Bytes of an option before what it holds: its kind and its length.
pub const HEAD: usize = 2;

/// What becomes of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, as it is now.
    Stays,
    /// Padding takes its place.
    Goes,
}

/// Shows each option but padding to `look`: its kind, and its bytes from the kind on, to be changed in place. The list
/// ends at its end mark, or at an option whose length cannot be (as `tcp_parse_options` ends it).
pub fn visit(options: &mut [u8], mut look: impl FnMut(u8, &mut [u8]) -> Fate) {
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        if kind == kind::END {
            return;
        }
        if kind == kind::NOP {
            at += 1;
            continue;
        }
        let len = options.get(at + 1).map_or(0, |len| usize::from(*len));
        let Some(option) = options.get_mut(at..at + len).filter(|_| len >= HEAD) else {
            return;
        };
        if look(kind, option) == Fate::Goes {
            option.fill(kind::NOP);
        }
        at += len;
    }
}

/// The 32-bit number at a place of an option, where that is as long.
pub fn number(option: &[u8], at: usize) -> Option<u32> {
    let bytes = option.get(at..at + 4)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// Sets the 32-bit number at a place of an option, where that is as long.
pub fn set_number(option: &mut [u8], at: usize, number: u32) {
    if let Some(bytes) = option.get_mut(at..at + 4) {
        bytes.copy_from_slice(&number.to_be_bytes());
    }
}

/// Changes the edges of the SACK blocks in `options` by `edge`. A block that has nothing between its edges afterwards
/// goes, those behind it move up, and padding follows them.
pub fn map_sack(options: &mut [u8], mut edge: impl FnMut(u32) -> u32) {
    /// Bytes of a block.
    const BLOCK: usize = 8;
    visit(options, |kind, option| {
        if kind != kind::SACK {
            return Fate::Stays;
        }
        let mut end = HEAD;
        for at in (HEAD..option.len()).step_by(BLOCK) {
            let edges = number(option, at).zip(number(option, at + 4));
            let Some((left, right)) = edges.map(|(l, r)| (edge(l), edge(r))) else {
                break;
            };
            if left != right {
                set_number(option, end, left);
                set_number(option, end + 4, right);
                end += BLOCK;
            }
        }
        if end == HEAD {
            return Fate::Goes;
        }
        option[1] = narrow::to_u8(end);
        option[end..].fill(kind::NOP);
        Fate::Stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(options: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut seen = Vec::new();
        let mut own = options.to_vec();
        visit(&mut own, |kind, option| {
            seen.push((kind, option[HEAD..].to_vec()));
            Fate::Stays
        });
        assert_eq!(own, options, "looking changes nothing");
        seen
    }

    #[test]
    fn options_are_seen_up_to_what_cannot_be_one() {
        let both = vec![(2, vec![5, 180]), (4, vec![])];
        for (options, seen) in [
            (&[2, 4, 5, 180, 1, 4, 2][..], &both[..]),
            (&[2, 4, 5, 180, 4, 2, 0, 8, 10], &both),
            (&[2, 4, 5, 180, 4, 2, 8], &both),
            (&[2, 4, 5, 180, 4, 2, 8, 1], &both),
            (&[2, 4, 5, 180, 4, 2, 8, 0, 0], &both),
            (&[2, 4, 5, 180, 4, 2, 8, 10, 0], &both),
            (&[], &[]),
        ] {
            assert_eq!(kinds(options), seen, "{options:?}");
        }
    }

    #[test]
    fn what_goes_becomes_padding() {
        let mut options = [2, 4, 5, 180, 34, 6, 1, 2, 3, 4, 4, 2];
        visit(&mut options, |kind, _| match kind {
            kind::FAST_OPEN => Fate::Goes,
            _ => Fate::Stays,
        });
        assert_eq!(options, [2, 4, 5, 180, 1, 1, 1, 1, 1, 1, 4, 2]);
    }

    fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
        let mut options = vec![1, 1, 5, u8::try_from(2 + blocks.len() * 8).expect("few")];
        for (left, right) in blocks {
            options.extend(left.to_be_bytes());
            options.extend(right.to_be_bytes());
        }
        options
    }

    #[test]
    fn blocks_that_are_left_empty_go() {
        let edge = |n: u32| n.saturating_sub(10);
        for (before, after) in [
            (&[(15, 20)][..], sack(&[(5, 10)])),
            (&[(2, 8), (15, 20)], [sack(&[(5, 10)]), vec![1; 8]].concat()),
            (
                &[(15, 20), (2, 8), (30, 40)],
                [sack(&[(5, 10), (20, 30)]), vec![1; 8]].concat(),
            ),
            (&[(2, 8)], vec![1; 12]),
        ] {
            let mut options = sack(before);
            map_sack(&mut options, edge);
            assert_eq!(options, after, "{before:?}");
        }
    }
}
