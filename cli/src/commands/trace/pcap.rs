//! Frames of a capture file: the classic format of pcap-savefile(5), Ethernet, as `tcpdump -i IF -w` writes it.

use std::path::Path;

use uvs_control::trace::{MAX_BYTES, Subject};

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// LINKTYPE_ETHERNET, and those that `-i any` gives.
const ETHERNET: u32 = 1;
const COOKED: [u32; 2] = [113, 276];
/// What a file of the newer format begins with.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// How a file's numbers are written, and how many nanoseconds its fraction of a second counts.
struct Layout {
    little: bool,
    unit_ns: u64,
}

impl Layout {
    fn of(magic: [u8; 4]) -> Option<Self> {
        let (little, unit_ns) = match magic {
            [0xd4, 0xc3, 0xb2, 0xa1] => (true, 1000),
            [0xa1, 0xb2, 0xc3, 0xd4] => (false, 1000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (true, 1),
            [0xa1, 0xb2, 0x3c, 0x4d] => (false, 1),
            _ => return None,
        };
        Some(Self { little, unit_ns })
    }

    fn word(&self, bytes: &[u8], at: usize) -> u32 {
        let word: [u8; 4] = std::array::from_fn(|i| bytes[at + i]);
        if self.little {
            u32::from_le_bytes(word)
        } else {
            u32::from_be_bytes(word)
        }
    }
}

/// The first frames of a file, at most `limit`, and at most what a daemon takes at once.
///
/// # Errors
/// What is wrong with the file, and what to do about it.
pub(super) fn read(file: &Path, limit: usize) -> Result<Vec<Subject>, String> {
    let name = file.display();
    let bytes = std::fs::read(file).map_err(|e| format!("{name}: {e}"))?;
    let (subjects, left) = parse(&bytes, limit).map_err(|why| format!("{name}: {why}"))?;
    if left {
        eprintln!(
            "{name}: only the first {} frames are looked at",
            subjects.len()
        );
    }
    Ok(subjects)
}

/// The frames, and whether there are more.
fn parse(bytes: &[u8], limit: usize) -> Result<(Vec<Subject>, bool), String> {
    let head = bytes
        .get(..FILE_HEADER)
        .ok_or("this is not a capture file")?;
    let magic: [u8; 4] = std::array::from_fn(|i| head[i]);
    if magic == PCAPNG {
        return Err(
            "this is pcapng; turn it into pcap: editcap -F pcap IN OUT, or tcpdump -r IN -w OUT"
                .to_owned(),
        );
    }
    let layout = Layout::of(magic).ok_or("this is not a capture file of tcpdump -w")?;
    match layout.word(head, 20) & 0x0fff_ffff {
        ETHERNET => {}
        link if COOKED.contains(&link) => {
            return Err(
                "captured with `-i any`, which loses the MAC addresses; capture on one interface"
                    .to_owned(),
            );
        }
        link => {
            return Err(format!(
                "frames of link type {link}, where Ethernet (1) is needed"
            ));
        }
    }
    let (mut rest, mut subjects, mut size) = (&bytes[FILE_HEADER..], Vec::new(), 0);
    let mut began = None;
    while let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) {
        let (captured, length) = (
            layout.word(header, 8) as usize,
            layout.word(header, 12) as usize,
        );
        let frame = after
            .get(..captured)
            .ok_or("the file ends within a frame")?;
        size += length;
        if subjects.len() == limit || size > MAX_BYTES {
            return Ok((subjects, true));
        }
        let at = u64::from(layout.word(header, 0)) * 1_000_000_000
            + u64::from(layout.word(header, 4)) * layout.unit_ns;
        let after_ns = at.saturating_sub(*began.get_or_insert(at));
        if captured < length {
            return Err(format!(
                "frame {} was cut to {captured} of {length} bytes; capture with tcpdump -s 0",
                subjects.len() + 1
            ));
        }
        subjects.push(Subject::new(after_ns, frame));
        rest = &after[captured..];
    }
    Ok((subjects, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(magic: u32, link: u32, frames: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for word in [magic, 0x0004_0002, 0, 0, 65_535, link] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        for (i, frame) in (0..).zip(frames) {
            let length = u32::try_from(frame.len()).unwrap();
            for word in [7, i * 5, length, length] {
                out.extend_from_slice(&word.to_ne_bytes());
            }
            out.extend_from_slice(frame);
        }
        out
    }

    #[test]
    fn frames_are_read_with_their_times() {
        let all = file(0xa1b2_c3d4, 1, &[&[1; 20], &[2; 30]]);
        let (subjects, more) = parse(&all, 10).expect("a capture");
        assert_eq!(
            subjects,
            [Subject::new(0, &[1; 20]), Subject::new(5000, &[2; 30])]
        );
        assert!(!more);
        let (subjects, more) = parse(&all, 1).expect("a capture");
        assert_eq!((subjects.len(), more), (1, true));
        let nanoseconds = file(0xa1b2_3c4d, 1, &[&[1; 20], &[2; 30]]);
        assert_eq!(parse(&nanoseconds, 10).expect("a capture").0[1].after_ns, 5);
    }

    #[test]
    fn what_cannot_be_read_says_what_to_do() {
        let why = |bytes: &[u8]| parse(bytes, 10).expect_err("no capture");
        assert!(why(b"hello").contains("not a capture file"));
        assert!(why(&file(0xa1b2_c3d4, 276, &[])).contains("on one interface"));
        assert!(why(&file(0x0a0d_0d0a, 1, &[])).contains("editcap"));
        let whole = file(0xa1b2_c3d4, 1, &[&[1; 20]]);
        assert!(why(&whole[..whole.len() - 1]).contains("ends within"));
        let mut cut = whole.clone();
        cut[FILE_HEADER + 12..FILE_HEADER + 16].copy_from_slice(&40u32.to_ne_bytes());
        assert!(why(&cut).contains("tcpdump -s 0"));
    }
}
