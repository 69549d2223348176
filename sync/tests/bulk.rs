//! Asking for all, and being told: what comes is what was said; and what another key, a copy, a mirror, a cut or a
//! longer frame makes of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;
use uvs_core::time::Instant;
use uvs_sync::bulk::{Asked, Asking, Ends, Giving, Heard, LATE, LONGEST, Nonce, Refused};
use uvs_sync::seal::Key;

const BEGIN: Instant = Instant::from_secs(1000);
const ENDS: Ends = Ends {
    asking: IpAddr::V4(Ipv4Addr::new(10, 8, 0, 4)),
    asked: IpAddr::V4(Ipv4Addr::new(10, 8, 0, 3)),
    port: 8848,
};
const SYNCID: u8 = 7;
const GREETING: usize = 24;

fn key() -> Key {
    Key::new(b"the secret of both").expect("long enough")
}

fn asking(nonce: u8) -> (Asking, Vec<u8>) {
    Asking::new(BEGIN, key(), ENDS, (SYNCID, [nonce; 16]))
}

fn giving(nonce: u8) -> Giving {
    Giving::new(key(), ENDS, SYNCID, [nonce; 16])
}

/// What an end that is asked says to these bytes, until it would tell all.
fn answered(giving: &mut Giving, bytes: &[u8]) -> Result<(Vec<u8>, bool), Refused> {
    giving.put(bytes);
    let mut said = Vec::new();
    while let Some(asked) = giving.next(BEGIN)? {
        match asked {
            Asked::Say(bytes) => said.extend(bytes),
            Asked::All => return Ok((said, true)),
        }
    }
    Ok((said, false))
}

/// Both ends when all has been asked for.
fn begun() -> (Asking, Giving) {
    let (mut asking, greeting) = asking(1);
    let mut giving = giving(2);
    let (greeted, _) = answered(&mut giving, &greeting).expect("a greeting");
    asking.put(&greeted);
    let Ok(Some(Heard::Say(ask))) = asking.next(BEGIN) else {
        panic!("it asks")
    };
    assert_eq!(answered(&mut giving, &ask), Ok((Vec::new(), true)));
    (asking, giving)
}

/// All that was heard by a time, or what ended it.
fn heard(asking: &mut Asking, now: Instant, bytes: &[u8]) -> Result<Vec<Heard>, Refused> {
    asking.put(bytes);
    let mut all = Vec::new();
    while let Some(heard) = asking.next(now)? {
        all.push(heard);
    }
    Ok(all)
}

#[test]
fn what_is_told_is_heard_with_its_time_on_the_way() {
    let (mut asking, mut giving) = begun();
    let second = Duration::from_secs(1);
    let longest = vec![7; LONGEST.into()];
    let mut said = giving.datagram(BEGIN + 60 * second, &longest);
    said.extend(giving.datagram(BEGIN + 61 * second, b"two"));
    said.extend(giving.end(BEGIN + 61 * second));
    let all = heard(&mut asking, BEGIN + 62 * second, &said);
    let expected = [
        Heard::Datagram(longest, 2 * second),
        Heard::Datagram(b"two".to_vec(), second),
        Heard::End,
    ];
    assert_eq!(all.as_deref(), Ok(&expected[..]));
}

#[test]
fn a_greeting_that_is_slow_makes_nothing_newer() {
    let (mut asking, greeting) = asking(1);
    let mut giving = giving(2);
    let (greeted, _) = answered(&mut giving, &greeting).expect("a greeting");
    // The other end's greeting comes two seconds later, and what is told at once.
    let second = Duration::from_secs(1);
    asking.put(&greeted);
    let Ok(Some(Heard::Say(ask))) = asking.next(BEGIN + 2 * second) else {
        panic!("it asks")
    };
    answered(&mut giving, &ask).expect("a question");
    let said = giving.datagram(BEGIN + 2 * second, b"one");
    let told = heard(&mut asking, BEGIN + 3 * second, &said);
    assert_eq!(told, Ok(vec![Heard::Datagram(b"one".to_vec(), second)]));
}

#[test]
fn what_was_on_its_way_for_too_long_is_refused() {
    let (mut asking, mut giving) = begun();
    let said = giving.datagram(BEGIN, b"one");
    let late = LATE + Duration::from_millis(1);
    let refused = heard(&mut asking, BEGIN + late, &said);
    assert_eq!(refused, Err(Refused::Late(late)));
}

#[test]
fn nothing_is_told_before_it_is_asked_for() {
    let mut giving = giving(2);
    assert_eq!(giving.datagram(BEGIN, b"one"), b"");
    let (_, greeting) = asking(1);
    answered(&mut giving, &greeting).expect("a greeting");
    assert_eq!(giving.datagram(BEGIN, b"one"), b"");
}

/// What an end that is asked makes of the question of another one, made by `other`.
fn question_of(other: impl Fn(Nonce) -> (Asking, Vec<u8>)) -> Result<(Vec<u8>, bool), Refused> {
    let (mut asking, greeting) = other([1; 16]);
    let mut giving = giving(2);
    let (greeted, _) = answered(&mut giving, &greeting)?;
    asking.put(&greeted);
    let Ok(Some(Heard::Say(ask))) = asking.next(BEGIN) else {
        panic!("it asks")
    };
    answered(&mut giving, &ask)
}

#[test]
fn another_key_address_port_or_syncid_is_refused() {
    let with = |key: &'static [u8], ends: Ends, syncid: u8| {
        let key = Key::new(key).expect("long enough");
        question_of(move |nonce| Asking::new(BEGIN, key.clone(), ends, (syncid, nonce)))
    };
    let ours = b"the secret of both";
    let other = IpAddr::V4(Ipv4Addr::new(10, 8, 0, 5));
    assert_eq!(with(ours, ENDS, SYNCID), Ok((Vec::new(), true)));
    assert_eq!(with(ours, ENDS, 0), Ok((Vec::new(), true)));
    assert_eq!(with(ours, ENDS, 8), Err(Refused::SyncId(8)));
    let key = with(b"another secret, of others", ENDS, SYNCID);
    assert_eq!(key, Err(Refused::Key));
    for ends in [
        Ends {
            asking: other,
            ..ENDS
        },
        Ends {
            asked: other,
            ..ENDS
        },
        Ends { port: 1, ..ENDS },
    ] {
        assert_eq!(with(ours, ends, SYNCID), Err(Refused::Key));
    }
}

#[test]
fn a_copy_of_another_conversation_is_refused() {
    // What was asked, of a director that greets otherwise now.
    let (mut first, greeting) = asking(1);
    let mut before = giving(2);
    let (greeted, _) = answered(&mut before, &greeting).expect("a greeting");
    first.put(&greeted);
    let Ok(Some(Heard::Say(ask))) = first.next(BEGIN) else {
        panic!("it asks")
    };
    let mut now = giving(3);
    answered(&mut now, &greeting).expect("a greeting");
    assert_eq!(answered(&mut now, &ask), Err(Refused::Key));
    // What was told, to a director that greets otherwise now.
    assert_eq!(answered(&mut before, &ask), Ok((Vec::new(), true)));
    let told = before.datagram(BEGIN, b"one");
    let (mut later, _) = asking(4);
    heard(&mut later, BEGIN, &greeted).expect("a greeting");
    assert_eq!(heard(&mut later, BEGIN, &told), Err(Refused::Key));
}

#[test]
fn a_mirror_is_refused() {
    // Who asks hears its own greeting and its own question.
    let (mut asking, greeting) = asking(1);
    asking.put(&greeting);
    let Ok(Some(Heard::Say(ask))) = asking.next(BEGIN) else {
        panic!("it asks")
    };
    assert_eq!(heard(&mut asking, BEGIN, &ask), Err(Refused::Key));
    // Who is asked hears what it has said.
    let (_, mut giving) = begun();
    let said = giving.datagram(BEGIN, b"one");
    assert_eq!(answered(&mut giving, &said), Err(Refused::Unexpected));
}

#[test]
fn frames_have_their_turn() {
    let (mut asking, mut giving) = begun();
    let first = giving.datagram(BEGIN, b"one");
    let second = giving.datagram(BEGIN, b"two");
    heard(&mut asking, BEGIN, &first).expect("its turn");
    assert_eq!(heard(&mut asking, BEGIN, &first), Err(Refused::Key));
    let (mut asking, _) = begun();
    assert_eq!(heard(&mut asking, BEGIN, &second), Err(Refused::Key));
}

#[test]
fn what_is_too_long_or_too_short_is_refused_before_it_is_there() {
    let (mut asking, mut giving) = begun();
    let [high, low] = (LONGEST + 38).to_be_bytes();
    let oversized = heard(&mut asking, BEGIN, &[high, low]);
    assert_eq!(oversized, Err(Refused::Oversized));
    let (mut asking, _) = begun();
    let short = heard(&mut asking, BEGIN, &[0, 36]);
    assert_eq!(short, Err(Refused::Unexpected));
    let more = answered(&mut giving, &[0]);
    assert_eq!(more, Err(Refused::Unexpected), "it was asked already");
    let mut giving = self::giving(2);
    let (_, greeting) = self::asking(1);
    answered(&mut giving, &greeting).expect("a greeting");
    assert_eq!(answered(&mut giving, &[0, 39]), Err(Refused::Oversized));
}

#[test]
fn another_protocol_is_refused_at_its_first_byte() {
    let (mut asking, _) = asking(1);
    assert_eq!(heard(&mut asking, BEGIN, b"H"), Err(Refused::Greeting));
    let refused = answered(&mut giving(2), b"uvsbulk2");
    assert_eq!(refused, Err(Refused::Greeting));
}

proptest! {
    #[test]
    fn a_stream_may_come_in_any_pieces(cuts in proptest::collection::vec(1_usize..40, 1..40)) {
        let (mut asking, mut giving) = begun();
        let mut said = giving.datagram(BEGIN, b"one");
        said.extend(giving.datagram(BEGIN, b"two"));
        said.extend(giving.end(BEGIN));
        let mut all = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        while !said.is_empty() {
            let cut = cuts.next().expect("for ever").min(said.len());
            let piece: Vec<u8> = said.drain(..cut).collect();
            all.extend(heard(&mut asking, BEGIN, &piece).expect("what was said"));
        }
        let one = Heard::Datagram(b"one".to_vec(), Duration::ZERO);
        let two = Heard::Datagram(b"two".to_vec(), Duration::ZERO);
        prop_assert_eq!(all, vec![one, two, Heard::End]);
    }

    #[test]
    fn no_byte_may_change(body: Vec<u8>, place: prop::sample::Index, change in 1..=u8::MAX) {
        let (mut asking, mut giving) = begun();
        let mut said = giving.datagram(BEGIN, &body);
        said.extend(giving.end(BEGIN));
        let place = place.index(said.len());
        said[place] ^= change;
        // A length that has grown waits for more, and hears no end.
        if let Ok(all) = heard(&mut asking, BEGIN, &said) {
            prop_assert!(!all.contains(&Heard::End));
        }
    }

    #[test]
    fn whatever_comes_is_no_question_and_no_answer(bytes: Vec<u8>, greets: bool) {
        let (mut asking, greeting) = asking(1);
        let mut giving = giving(2);
        let said = if greets { [greeting, bytes].concat() } else { bytes };
        if let Ok((greeted, all)) = answered(&mut giving, &said) {
            prop_assert!(!all && greeted.len() <= GREETING);
        }
        if let Ok(all) = heard(&mut asking, BEGIN, &said) {
            prop_assert!(all.len() <= 1, "its own question, at most");
        }
    }
}
