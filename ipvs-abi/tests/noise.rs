//! Whatever bytes come: every datagram is answered within bounds, and nothing panics.

mod common;

use common::{ACK, DUMP, Memory, hex, message};
use proptest::prelude::*;
use uvs_ipvs_abi::attribute::Attributes;
use uvs_ipvs_abi::conversation::Conversation;
use uvs_ipvs_carried::{CONTROLLER, FAMILY, MAX_DATAGRAM, Part, Question};

/// Requests that mean something, for the mutations to begin at.
fn seeds() -> Vec<Vec<u8>> {
    let service = Attributes::new()
        .u16(1, 2)
        .u16(2, 6)
        .bytes(3, &[10, 0, 1, 100, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .port(4, 80)
        .text(6, "rr")
        .bytes(7, &hex("01000000ffffffff"))
        .u32(8, 50)
        .bytes(9, &[255; 4])
        .text(11, "sip");
    let server = Attributes::new()
        .bytes(1, &[10, 0, 2, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .port(2, 80)
        .u32(3, 2)
        .u32(4, 1)
        .u32(5, 0)
        .u32(6, 0)
        .u16(11, 2)
        .u8(13, 1)
        .port(14, 6080);
    let both = Attributes::new()
        .nest(0x8001, &service)
        .nest(2, &server)
        .to_bytes();
    let commands = (1..=17).flat_map(|command| {
        let payload = [&[command, 1, 0, 0][..], &both].concat();
        [
            message(FAMILY, ACK, &payload),
            message(FAMILY, DUMP, &payload),
        ]
    });
    let family = message(CONTROLLER, ACK, &hex("03010000 0900020049505653 00000000"));
    let options = (1152..=1167).flat_map(|name| {
        let value = [7; 68];
        [
            Question::get(name, &value).to_bytes(),
            Question::Set {
                name,
                value: &value,
            }
            .to_bytes(),
        ]
    });
    let files = (0..4).map(|place| Question::File { place }.to_bytes());
    commands
        .chain([family])
        .chain(options)
        .chain(files)
        .collect()
}

/// Bytes that are changed: where, and to what.
fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
}

/// Has datagrams answered, and looks at the answers.
fn put(memory: &mut Memory, datagram: &[u8], permitted: bool) -> Result<(), TestCaseError> {
    let mut conversation = Conversation::new(permitted);
    conversation.hear(datagram.to_vec());
    // Each request takes a header's length at least; a listing ends with the connections, of which there are none.
    for _ in 0..=datagram.len() / 16 + 2 {
        let Some(answers) = conversation.answer(memory) else {
            return Ok(());
        };
        for answer in answers {
            prop_assert!(answer.len() <= MAX_DATAGRAM + 64);
            let length = answer
                .first_chunk()
                .map(|l| u32::from_ne_bytes(*l) as usize);
            let is_message = length.is_some_and(|l| l >= 16 && l <= answer.len());
            prop_assert!(is_message || Part::parse(&answer).is_some(), "{answer:x?}");
        }
    }
    Err(TestCaseError::fail("it goes on and on"))
}

proptest! {
    #[test]
    fn requests_with_some_bytes_changed(
        which in prop::collection::vec((any::<prop::sample::Index>(), changes()), 1..8),
        cut in any::<prop::sample::Index>(),
        permitted in prop::bool::weighted(0.9),
    ) {
        let seeds = seeds();
        let mut memory = Memory::default();
        for (index, changes) in which {
            let mut datagram = index.get(&seeds).clone();
            for (place, byte) in changes {
                *place.get_mut(&mut datagram) = byte;
            }
            put(&mut memory, &datagram, permitted)?;
            put(&mut memory, &datagram[..cut.index(datagram.len())], permitted)?;
        }
    }

    #[test]
    fn any_bytes(datagram in prop::collection::vec(any::<u8>(), 0..400)) {
        put(&mut Memory::default(), &datagram, true)?;
    }
}
