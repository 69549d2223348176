//! The codec where nothing was recorded: options, limits, padding, and bytes from anywhere.

use proptest::prelude::*;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::time::Instant;
use uvs_sync::message::flag;
use uvs_sync::{Message, Refused, Sequence, Version, Writer, read};

fn message(client: u16) -> Message {
    let v4 = |last, port| Endpoint::new(Addr::v4([10, 0, 0, last]), port);
    Message {
        protocol: 6,
        flags: 3,
        state: 1,
        client: v4(1, client),
        vip: v4(2, 80),
        server: v4(3, 80),
        mark: 0,
        timeout: 900,
        sequence: None,
        engine: Vec::new(),
        engine_data: Vec::new(),
        local: None,
        idle: None,
        timestamps: None,
    }
}

fn datagram(version: Version, messages: &[Message]) -> Vec<u8> {
    let mut writer = Writer::new(7, u16::MAX);
    for m in messages {
        assert_eq!(writer.add(Instant::ZERO, version, m), None);
    }
    writer.finish().expect("a datagram")
}

fn messages(datagram: &[u8]) -> Vec<Result<Message, Refused>> {
    read(datagram, 7).expect("a datagram").collect()
}

#[test]
fn a_full_datagram_is_handed_out_and_the_next_one_begun() {
    let mut writer = Writer::new(7, 80);
    assert_eq!(writer.due(), None);
    let now = Instant::from_secs(5);
    assert_eq!(writer.add(now, Version::V1, &message(1)), None);
    assert_eq!(writer.due(), Some(Instant::from_secs(7)));
    assert_eq!(
        writer.add(Instant::from_secs(6), Version::V1, &message(2)),
        None
    );
    assert_eq!(
        writer.due(),
        Some(Instant::from_secs(7)),
        "the first one waits"
    );
    let full = writer.add(Instant::from_secs(6), Version::V1, &message(3));
    assert_eq!(messages(&full.expect("80 bytes hold two")).len(), 2);
    assert_eq!(writer.due(), Some(Instant::from_secs(8)));
    assert_eq!(messages(&writer.finish().expect("one more")).len(), 1);
    assert_eq!((writer.finish(), writer.due()), (None, None));
}

#[test]
fn a_message_larger_than_the_limit_goes_alone() {
    let mut writer = Writer::new(7, 20);
    assert_eq!(writer.add(Instant::ZERO, Version::V1, &message(1)), None);
    assert!(
        writer
            .add(Instant::ZERO, Version::V1, &message(2))
            .is_some()
    );
    assert!(writer.finish().is_some());
}

#[test]
fn another_version_begins_another_datagram() {
    let mut writer = Writer::new(7, 1472);
    assert_eq!(writer.add(Instant::ZERO, Version::V1, &message(1)), None);
    let one = writer.add(Instant::ZERO, Version::V0, &message(2));
    assert_eq!(one.map(|d| d.len()), Some(8 + 36));
    assert_eq!(writer.finish().map(|d| d.len()), Some(4 + 24));
    let six = Message {
        client: Endpoint::new(Addr([0x20; 16]), 1),
        vip: Endpoint::new(Addr([0x21; 16]), 1),
        server: Endpoint::new(Addr([0x22; 16]), 1),
        ..message(1)
    };
    assert_eq!(writer.add(Instant::ZERO, Version::V0, &six), None);
    assert_eq!(writer.finish(), None, "version 0 has no form for IPv6");
}

#[test]
fn a_count_of_a_byte_is_never_exceeded() {
    let mut writer = Writer::new(7, u16::MAX);
    let full = (0..300).filter_map(|i| writer.add(Instant::ZERO, Version::V1, &message(i)));
    let counts: Vec<usize> = full.map(|d| messages(&d).len()).collect();
    assert_eq!(counts, [255]);
    assert_eq!(messages(&writer.finish().expect("the rest")).len(), 45);
}

#[test]
fn options_are_kept_and_those_of_no_interest_skipped() {
    let options = Message {
        flags: 3 | flag::SEQ,
        sequence: Some([
            Sequence {
                from: 1,
                by: 2,
                before: 3,
            },
            Sequence {
                from: 4,
                by: u32::MAX,
                before: 6,
            },
        ]),
        engine: b"sip".to_vec(),
        engine_data: b"call@host".to_vec(),
        local: Some(Endpoint::new(Addr([0xfd; 16]), 5000)),
        idle: Some(90_000),
        timestamps: Some(0xffff_0007),
        ..message(1)
    };
    let both = datagram(Version::V1, &[options.clone(), message(2)]);
    assert_eq!(messages(&both), [Ok(options.clone()), Ok(message(2))]);
    let v0 = datagram(Version::V0, std::slice::from_ref(&options));
    let simple = Message {
        engine: Vec::new(),
        engine_data: Vec::new(),
        local: None,
        idle: None,
        timestamps: None,
        timeout: 0,
        ..options
    };
    assert_eq!(messages(&v0), [Ok(simple)]);
}

#[test]
fn a_calls_template_is_taken_up_with_its_call() {
    let of = |flags, engine: &str, data: &[u8]| Message {
        flags,
        engine: engine.as_bytes().to_vec(),
        engine_data: data.to_vec(),
        ..message(1)
    };
    let read = |m: &Message| messages(&datagram(Version::V1, std::slice::from_ref(m))).pop();
    let call = |m: &Message| {
        let read = read(m).expect("a message");
        read.map(|read| read.taken_up().call)
    };
    let template = of(flag::TEMPLATE, "sip", b"call@host");
    assert_eq!(call(&template), Ok(Some("call@host".into())));
    assert_eq!(
        call(&of(0, "sip", b"call@host")),
        Ok(None),
        "a connection has none"
    );
    // What there is no name for, or no engine, the kernel does not take either (`ip_vs_conn_fill_param_sync`).
    for (engine, data) in [
        ("", &b"call@host"[..]),
        ("quic", b"call@host"),
        ("sip", b"\xff\xfe"),
    ] {
        assert_eq!(
            call(&of(flag::TEMPLATE, engine, data)),
            Err(Refused::Engine),
            "{engine:?}"
        );
    }
    assert_eq!(call(&of(flag::TEMPLATE, "sip", b"")), Ok(None));
}

/// One message with these bytes as its options.
fn with_options(options: &[u8]) -> Result<Message, Refused> {
    let mut d = datagram(Version::V1, &[message(1)]);
    d.extend(options);
    let (size, entry) = (d.len(), 36 + options.len());
    d[2..4].copy_from_slice(&u16::try_from(size).expect("small").to_be_bytes());
    d[10..12].copy_from_slice(&u16::try_from(entry).expect("small").to_be_bytes());
    messages(&d).pop().expect("a message")
}

#[test]
fn an_option_is_known_or_may_be_skipped_or_refuses_its_message() {
    assert_eq!(
        with_options(&[0x41, 1, 9]),
        Err(Refused::Option),
        "sequence of a byte"
    );
    assert_eq!(
        with_options(&[0x7e, 2, 9, 9]),
        Ok(message(1)),
        "unknown, may be skipped"
    );
    assert_eq!(with_options(&[4, 1, 9]), Err(Refused::UnknownOption(4)));
    assert_eq!(with_options(&[3, 0]), Err(Refused::Option), "empty");
    assert_eq!(with_options(&[3]), Err(Refused::Option), "no length");
    assert_eq!(with_options(&[3, 4, b'a']), Err(Refused::Option), "cut off");
    assert_eq!(
        with_options(&[3, 1, b'a', 3, 1, b'b']),
        Err(Refused::Option),
        "twice"
    );
    assert_eq!(
        with_options(&[0x55, 5, 0, 1, 10, 0, 0]),
        Err(Refused::Option),
        "no address"
    );
    assert_eq!(with_options(&[0x56, 1, 0]), Err(Refused::Option), "a byte");
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200), good in any::<bool>()) {
        let mut bytes = bytes;
        if good && bytes.len() > 8 {
            let [high, low] = u16::try_from(bytes.len()).expect("small").to_be_bytes();
            let count = bytes[4];
            bytes[..8].copy_from_slice(&[0, 7, high, low, count, 1, 0, 0]);
        }
        if let Ok(messages) = read(&bytes, 7) {
            prop_assert!(messages.count() <= 255);
        }
    }

    #[test]
    fn what_is_written_is_read(
        protocol in prop_oneof![Just(6_u8), Just(17), Just(132)],
        v6 in any::<bool>(), ports in any::<[u16; 3]>(), addrs in any::<[u64; 3]>(),
        mark in any::<u32>(), timeout in any::<u32>(), flags in any::<u32>(),
        engine in proptest::collection::vec(any::<u8>(), 0..17),
        local in proptest::option::of(any::<(u64, u16, bool)>()),
        idle in any::<Option<u32>>(),
        timestamps in any::<Option<u32>>(),
    ) {
        let addr = |n: u64, v6: bool| match v6 {
            true => Addr((u128::from(n) | 0xfd << 120).to_be_bytes()),
            false => Addr::v4([10, n.to_be_bytes()[0], n.to_be_bytes()[3], n.to_be_bytes()[7]]),
        };
        let end = |i: usize| Endpoint::new(addr(addrs[i], v6), ports[i]);
        let m = Message {
            protocol, state: 0, mark, timeout, engine,
            flags: flags & flag::BACKUP & !flag::SEQ,
            client: end(0), vip: end(1), server: end(2),
            sequence: None, engine_data: Vec::new(),
            local: local.map(|(n, port, v6)| Endpoint::new(addr(n, v6), port)),
            idle,
            timestamps,
        };
        let d = datagram(Version::V1, &[m.clone(), m.clone()]);
        prop_assert_eq!(messages(&d), vec![Ok(m.clone()), Ok(m)]);
    }
}
