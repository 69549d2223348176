//! What a seal holds off: another key, another sender, a changed byte, what is old and what was taken already.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;
use uvs_sync::seal::{Before, Clock, Key, MIN_SECRET, Mark, Marks, SEAL, TOLERANCE, Unsealed, Way};

const NOW: Duration = Duration::from_secs(1_700_000_000);
const WAY: Way = Way {
    from: IpAddr::V4(Ipv4Addr::new(10, 8, 0, 3)),
    port: 8848,
};

fn key(secret: &[u8]) -> Key {
    Key::new(secret).expect("long enough")
}

/// So many microseconds later, the way's datagram of this number.
fn mark(micros: u64, number: u32) -> Mark {
    let stamp = NOW + Duration::from_micros(micros);
    Mark { stamp, number }
}

fn sealed(datagram: &[u8]) -> Vec<u8> {
    let mut bytes = datagram.to_vec();
    key(b"the secret of both").seal(WAY, mark(0, 7), &mut bytes);
    bytes
}

#[test]
fn a_secret_has_a_least_length() {
    assert!(Key::new(&[7; MIN_SECRET]).is_some());
    assert!(Key::new(&[7; MIN_SECRET - 1]).is_none());
}

#[test]
fn what_is_sealed_is_as_it_was() {
    let bytes = sealed(b"a datagram");
    assert_eq!(bytes.len(), b"a datagram".len() + SEAL);
    let opened = key(b"the secret of both").open(WAY, &bytes);
    assert_eq!(opened, Ok((&b"a datagram"[..], mark(0, 7))));
}

#[test]
fn another_key_sender_or_port_is_refused() {
    let bytes = sealed(b"a datagram");
    let other = key(b"another secret, of others");
    assert_eq!(other.open(WAY, &bytes), Err(Unsealed::Key));
    let ours = key(b"the secret of both");
    let from = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 4));
    assert_eq!(ours.open(Way { from, ..WAY }, &bytes), Err(Unsealed::Key));
    let port = 8849;
    assert_eq!(ours.open(Way { port, ..WAY }, &bytes), Err(Unsealed::Key));
    assert_eq!(ours.open(WAY, b"a datagram"), Err(Unsealed::None));
}

#[test]
fn a_datagram_is_taken_once_and_while_it_is_new() {
    let mut marks = Marks::default();
    let none = Ok(Before::default());
    assert_eq!(marks.note(WAY, mark(0, 7), NOW), none);
    assert_eq!(marks.note(WAY, mark(0, 7), NOW), Err(Unsealed::Stamp));
    assert_eq!(marks.note(WAY, mark(1, 8), NOW), none);
    assert_eq!(marks.note(WAY, mark(0, 7), NOW), Err(Unsealed::Stamp));
    // Each way has its own.
    let other = Way { port: 8849, ..WAY };
    assert_eq!(marks.note(other, mark(0, 7), NOW), none);
    // A director that has just begun knows no mark, but the time.
    let late = NOW + TOLERANCE + Duration::from_micros(1);
    let old = Marks::default().note(WAY, mark(0, 7), late);
    assert_eq!(old, Err(Unsealed::Stamp));
    let stamp = late;
    let early = Marks::default().note(WAY, Mark { stamp, number: 7 }, NOW);
    assert_eq!(early, Err(Unsealed::Stamp));
}

#[test]
fn what_did_not_come_is_known() {
    let mut marks = Marks::default();
    let mut before = |micros, number| {
        let before = marks.note(WAY, mark(micros, number), NOW);
        before.map(|b| (b.missed, b.restarted))
    };
    assert_eq!(before(0, 7), Ok((0, false)), "the first that is heard");
    assert_eq!(before(1, 10), Ok((2, false)), "8 and 9");
    assert_eq!(before(2, 11), Ok((0, false)));
    assert_eq!(before(1, 9), Err(Unsealed::Stamp), "it comes after all");
    assert_eq!(before(3, 0), Ok((0, true)), "the other has begun anew");
    assert_eq!(before(4, u32::MAX), Ok((u32::MAX - 1, false)));
    assert_eq!(before(5, 0), Ok((0, true)), "a count that is full");
}

#[test]
fn a_clock_that_is_set_back_goes_on() {
    let mut clock = Clock::default();
    let first = clock.next(NOW);
    let second = clock.next(NOW - Duration::from_secs(5));
    assert!(first.stamp < second.stamp, "{first:?} {second:?}");
    assert_eq!((first.number, second.number), (0, 1));
}

proptest! {
    #[test]
    fn no_byte_may_change(datagram: Vec<u8>, place: prop::sample::Index, change in 1..=u8::MAX) {
        let mut bytes = sealed(&datagram);
        let place = place.index(bytes.len());
        bytes[place] ^= change;
        let opened = key(b"the secret of both").open(WAY, &bytes);
        prop_assert_eq!(opened, Err(Unsealed::Key));
    }

    #[test]
    fn whatever_comes_is_no_seal(bytes: Vec<u8>) {
        prop_assert!(key(b"the secret of both").open(WAY, &bytes).is_err());
    }
}
