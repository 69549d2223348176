//! A director's whole table as another one takes it up: through the bytes of messages, from engine to engine.

use std::time::Duration;

use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::peer::{NotTakenUp, TakenUp};
use uvs_core::service::{Forwarding, Tunnel};
use uvs_core::snapshot::Peers;
use uvs_core::testing::bed::{Bed, CLIENT, CLIENTS, LOCAL, SERVER, SERVER_PORT, VIP};
use uvs_core::testing::packets::{ACK, SYN, TestFrame, tcp};
use uvs_core::time::Instant;
use uvs_core::verdict::Verdict;
use uvs_core::wire::tcp::flag::{FIN, RST};
use uvs_sync::{Message, Version, Writer, read};

const SYNCID: u8 = 7;
/// Places looked at for one answer.
const FEW: u32 = 3;

/// A director with a service, a master and a backup, at a time when there have been packets for a while.
fn director(forwarding: Forwarding) -> Bed {
    let tunnel = Tunnel::default();
    let mut bed = Bed::with_service(uvs_modes::BUILTIN, Protocol::Tcp, forwarding, tunnel);
    bed.snapshot.peers = Peers {
        master: true,
        backup: true,
    };
    bed.apply();
    bed.wait(Duration::from_secs(1000));
    bed
}

fn client(port: u16) -> Endpoint {
    Endpoint::new(CLIENT.addr, port)
}

fn segment(bed: &mut Bed, port: u16, flags: u8) -> Verdict {
    let frame = tcp(client(port), VIP, flags).frame();
    bed.receive(CLIENTS, TestFrame::finished(&frame))
}

fn establish(bed: &mut Bed, port: u16) {
    segment(bed, port, SYN);
    segment(bed, port, ACK);
}

/// All that a director tells one that asks for it, as that one reads it.
fn all(bed: &Bed) -> Vec<TakenUp> {
    let mut writer = Writer::new(SYNCID, u16::MAX);
    let mut datagrams = Vec::new();
    let mut from = Some(0);
    while let Some(place) = from {
        let (told, rest) = bed.engine.tell_all(bed.now, place, FEW);
        from = rest;
        for message in told.iter().filter_map(Message::of) {
            datagrams.extend(writer.add(Instant::ZERO, Version::V1, &message));
        }
    }
    datagrams.extend(writer.finish());
    let messages = datagrams.iter().flat_map(|datagram| {
        let read = read(datagram, SYNCID).expect("a datagram");
        read.map(|message| message.expect("a message").taken_up())
    });
    messages.collect()
}

fn take_up(bed: &mut Bed, told: &[TakenUp]) -> Vec<Result<(), NotTakenUp>> {
    let taken = told.iter().map(|told| bed.engine.take_up(bed.now, told));
    let taken = taken.collect();
    bed.engine.audit();
    taken
}

/// The connections by their clients' ports, with states and the seconds that they have left.
fn rows(bed: &Bed) -> Vec<(u16, &'static str, u32)> {
    let (conns, _) = bed.engine.report_connections(bed.now, 0, 1000);
    let rows = conns.iter().map(|c| (c.client.port, c.state, c.expires));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    rows
}

#[test]
fn all_that_lasts_goes_over_in_every_mode() {
    for forwarding in [
        Forwarding::Dr,
        Forwarding::Nat,
        Forwarding::FullNat,
        Forwarding::Tunnel,
    ] {
        let mut first = director(forwarding);
        for port in 1..=7 {
            establish(&mut first, port);
        }
        segment(&mut first, 7, FIN | ACK);
        segment(&mut first, 8, SYN);
        let told = all(&first);
        assert_eq!(told.len(), 7, "the one that is half open is not told of");
        let locals = told.iter().filter_map(|t| t.local);
        let local = if forwarding.takes_local() { 7 } else { 0 };
        assert_eq!(locals.filter(|l| l.addr == LOCAL).count(), local);

        let mut second = director(forwarding);
        assert_eq!(take_up(&mut second, &told), [Ok(()); 7]);
        assert_eq!(second.engine.taken_up(), 7);
        let here = rows(&second);
        assert_eq!(here[..], rows(&first)[..7], "{forwarding:?}");
        for port in 1..=7 {
            let verdict = segment(&mut second, port, ACK);
            assert!(matches!(verdict, Verdict::Send(_)), "{forwarding:?}");
        }
        // It tells of them itself when it is asked: who told may have lost them since.
        assert_eq!(all(&second).len(), 7);
        second.wait(Duration::from_secs(901));
        assert_eq!(second.engine.taken_up(), 0);
    }
}

#[test]
fn what_has_been_idle_is_as_old_there() {
    let mut first = director(Forwarding::Dr);
    establish(&mut first, 1);
    first.wait(Duration::from_secs(600));
    let mut second = director(Forwarding::Dr);
    take_up(&mut second, &all(&first));
    assert_eq!(rows(&second), [(1, "ESTABLISHED", 300)]);
    second.wait(Duration::from_secs(299));
    assert_eq!(rows(&second).len(), 1);
    second.wait(Duration::from_secs(2));
    assert_eq!(rows(&second), []);
    let over = all(&first).pop().map(|told| TakenUp {
        idle: Some(Duration::from_secs(900)),
        ..told
    });
    let refused = take_up(&mut second, &[over.expect("one")]);
    assert_eq!(refused, [Err(NotTakenUp::Older)]);
    let counted = second.engine.counters().not_taken_up;
    assert_eq!(counted, 0, "it is not refused, but known better");
}

#[test]
fn nothing_older_overwrites_what_is_newer() {
    let mut first = director(Forwarding::Dr);
    establish(&mut first, 1);
    let copy = all(&first);
    let mut second = director(Forwarding::Dr);
    take_up(&mut second, &copy);
    // It is told that it has ended while the copy is on its way.
    first.wait(Duration::from_secs(1));
    second.wait(Duration::from_secs(1));
    segment(&mut first, 1, RST);
    let ended = TakenUp {
        idle: None,
        ..all(&first).remove(0)
    };
    take_up(&mut second, &[ended]);
    let late = TakenUp {
        idle: Some(Duration::from_secs(1)),
        ..copy[0].clone()
    };
    assert_eq!(
        take_up(&mut second, std::slice::from_ref(&late)),
        [Err(NotTakenUp::Older)]
    );
    assert_eq!(rows(&second), [(1, "CLOSE", 10)]);
    // Nor does it take the place of one to another server that has begun since.
    let elsewhere = TakenUp {
        server: Endpoint::new(SERVER, SERVER_PORT + 1),
        ..late
    };
    assert_eq!(take_up(&mut second, &[elsewhere]), [Err(NotTakenUp::Older)]);
}

#[test]
fn what_is_newer_moves_what_is_older() {
    let mut first = director(Forwarding::Dr);
    establish(&mut first, 1);
    let mut second = director(Forwarding::Dr);
    take_up(&mut second, &all(&first));
    first.wait(Duration::from_secs(1));
    second.wait(Duration::from_secs(1));
    // The datagram that would have said so is lost.
    segment(&mut first, 1, FIN | ACK);
    assert_eq!(take_up(&mut second, &all(&first)), [Ok(())]);
    assert_eq!(rows(&second), [(1, "FIN_WAIT", 120)]);
}

#[test]
fn who_was_told_knows_no_better_than_who_told() {
    let mut first = director(Forwarding::Dr);
    establish(&mut first, 1);
    let mut second = director(Forwarding::Dr);
    // The datagram has waited for company before it came.
    second.wait(Duration::from_millis(1900));
    let told = TakenUp {
        idle: None,
        ..all(&first).remove(0)
    };
    take_up(&mut second, &[told]);
    let back = all(&second);
    first.wait(Duration::from_millis(100));
    segment(&mut first, 1, FIN | ACK);
    first.wait(Duration::from_millis(1800));
    assert_eq!(take_up(&mut first, &back), [Err(NotTakenUp::Older)]);
    assert_eq!(rows(&first)[0].1, "FIN_WAIT");
    assert_eq!(first.engine.taken_up(), 0, "it is its own");
}

#[test]
fn without_a_master_nothing_is_told() {
    let mut bed = director(Forwarding::Dr);
    establish(&mut bed, 1);
    bed.snapshot.peers = Peers::default();
    bed.apply();
    assert!(bed.engine.tell_all(bed.now, 0, FEW).0.is_empty());
}
