//! Asking and telling over real sockets on `lo`, in virtual time: how much is copied and kept, and who is cut off.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

use mio::Poll;
use uvs_control::protocol::SyncRequest;
use uvs_core::conn::Conn;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::narrow;
use uvs_core::peer::Shifts;
use uvs_core::service::Forwarding;
use uvs_sync::bulk::{Asking, Ends, Heard};

use super::*;

const BEGIN: Instant = Instant::from_secs(1000);
/// Messages of a part, and how many parts there are.
const PART: u32 = 1024;
const PARTS: u32 = 32;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Longer than anybody's patience.
const LONG: Duration = Duration::from_secs(6);

/// A director's daemons on `lo`, and what they count.
struct Rig {
    poll: Poll,
    daemon: SyncDaemon,
    giver: Giver,
    given: Count,
    /// Parts that were copied.
    copied: u32,
}

fn key() -> Key {
    Key::new(b"the secret of both").expect("long enough")
}

impl Rig {
    /// One that tells `peers`, all where there are none.
    fn new(peers: &[IpAddr]) -> Self {
        let free = TcpListener::bind((HERE, 0)).expect("a port");
        let port = free.local_addr().expect("a socket").port();
        drop(free);
        let request = SyncRequest {
            port: Some(port),
            peers: peers.to_vec(),
            bulk: true,
            ..SyncRequest::new(SyncRole::Master, "lo".to_owned(), 7)
        };
        let poll = Poll::new().expect("epoll");
        let daemon = request.on(1500);
        let events = (poll.registry(), Token(0));
        let giver = Giver::start(&daemon, key(), events).expect("a listener");
        Self {
            poll,
            daemon,
            giver,
            given: Count::default(),
            copied: 0,
        }
    }

    fn turn(&mut self, now: Instant) {
        let copied = &mut self.copied;
        let events = (self.poll.registry(), Token(0));
        let part = |from: Cursor| {
            *copied += 1;
            let from = narrow::to_u32(usize::try_from(u64::from(from)).expect("a place"));
            let told = (from..from + PART).map(told);
            let next = from + PART;
            let rest = (next < PART * PARTS).then(|| Cursor::from(u64::from(next)));
            Some((told.collect(), rest))
        };
        self.giver.turn(now, events, part, &mut self.given);
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((HERE, self.daemon.port)).expect("a connection");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("a socket");
        stream
    }

    /// One that has asked, and has read nothing of what it is told.
    fn asked(&mut self) -> (TcpStream, Asking) {
        let mut stream = self.connect();
        let ends = Ends {
            asking: HERE,
            asked: HERE,
            port: self.daemon.port,
        };
        let (mut asking, greeting) = Asking::new(BEGIN, key(), ends, (7, [1; 16]));
        stream.write_all(&greeting).expect("a word");
        let mut greeted = [0; 24];
        stream.set_nonblocking(true).expect("a socket");
        self.turn_until(|_| stream.peek(&mut [0; 24]).is_ok_and(|len| len == 24));
        stream.set_nonblocking(false).expect("a socket");
        stream.read_exact(&mut greeted).expect("a word");
        asking.put(&greeted);
        let Ok(Some(Heard::Say(ask))) = asking.next(BEGIN) else {
            panic!("it asks")
        };
        stream.write_all(&ask).expect("a word");
        (stream, asking)
    }

    /// Turns until something is so: what was sent may still be under way.
    fn turn_until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let patience = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            self.turn(BEGIN);
            if is_so(self) {
                return;
            }
            assert!(
                std::time::Instant::now() < patience,
                "{:?}",
                self.given.numbers
            );
        }
    }

    fn ended(&self, result: BulkResult) -> u64 {
        self.given.numbers.bulk[result as usize]
    }
}

/// The connection of a number.
fn told(number: u32) -> Told {
    let at = |addr: u32, port| Endpoint::new(Addr::v4(addr.to_be_bytes()), port);
    let client = at(0x0a00_0000 + number, 1024);
    let conn = Conn::new(
        Protocol::Tcp,
        client,
        at(0x0a08_0064, 80),
        at(0x0a08_000b, 80),
    );
    Told {
        conn,
        method: Forwarding::Dr,
        mark: 0,
        call: None,
        taken_up: false,
        idle: Some(Duration::ZERO),
        shifts: Shifts::default(),
    }
}

fn closed(mut stream: TcpStream) -> bool {
    let mut rest = Vec::new();
    // With a reset where something was left unread.
    let read = stream.read_to_end(&mut rest);
    read.is_ok() || read.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
}

#[test]
fn all_is_told_one_part_in_a_turn() {
    let mut rig = Rig::new(&[HERE]);
    let mut asker = Asker::new(&rig.daemon, key());
    let (mut asked, mut clients) = (Count::default(), Vec::new());
    let mut turns = 0;
    while asked.numbers.bulk[BulkResult::Complete as usize] == 0 {
        assert!(turns < 100_000, "{:?}", asked.numbers);
        turns += 1;
        let before = rig.copied;
        rig.turn(BEGIN);
        assert!(rig.copied - before <= 1);
        let events = (rig.poll.registry(), Token(0));
        let told = asker.turn(BEGIN, events, &mut asked);
        assert!(told.len() <= 255, "{}", told.len());
        clients.extend(told.into_iter().map(|told| told.client));
    }
    let all = (0..PART * PARTS).map(|n| told(n).conn.ends.client);
    assert_eq!(clients, all.collect::<Vec<_>>());
    assert_eq!(rig.ended(BulkResult::Complete), 1);
    let messages = u64::from(PART * PARTS);
    assert_eq!(rig.given.numbers.bulk_messages, messages);
    assert_eq!(asked.numbers.bulk_messages, messages);
    assert_eq!((rig.giver.left(BEGIN), asker.left(BEGIN)), (None, None));

    // Again, where datagrams did not come; not at once.
    let before = Before {
        missed: 1,
        restarted: false,
    };
    asker.heard(BEGIN, HERE, before);
    let again = Some(Duration::from_secs(60));
    assert_eq!(asker.left(BEGIN), again);
}

#[test]
fn all_who_ask_are_told_in_turn() {
    let mut rig = Rig::new(&[]);
    let asked = [rig.asked(), rig.asked()];
    let has_part = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("a socket");
        stream.peek(&mut [0; 1]).is_ok()
    };
    while !asked.iter().all(|(stream, _)| has_part(stream)) {
        assert!(rig.copied < 8, "one has had all of them");
        rig.turn(BEGIN);
    }
}

#[test]
fn who_takes_nothing_is_told_no_more_than_the_sockets_hold() {
    let mut rig = Rig::new(&[]);
    let (stream, _asking) = rig.asked();
    rig.turn_until(|rig| rig.copied > 0);
    for _ in 0..1000 {
        rig.turn(BEGIN);
    }
    let copied = rig.copied;
    assert!((1..PARTS).contains(&copied), "{copied} of {PARTS}");
    assert_ne!(rig.giver.left(BEGIN), Some(Duration::ZERO));
    rig.turn(BEGIN + LONG);
    assert_eq!(rig.copied, copied, "nothing more was copied for it");
    assert_eq!(rig.ended(BulkResult::Slow), 1);
    assert!(closed(stream));
}

#[test]
fn who_says_nothing_is_cut_off_and_only_so_many_are_heard() {
    let mut rig = Rig::new(&[]);
    let silent: Vec<TcpStream> = (0..5).map(|_| rig.connect()).collect();
    rig.turn_until(|rig| rig.ended(BulkResult::Busy) > 0);
    rig.turn(BEGIN + LONG);
    let ended = [BulkResult::Busy, BulkResult::Slow].map(|result| rig.ended(result));
    assert_eq!(ended, [1, 4]);
    assert!(silent.into_iter().all(closed));
    let (_stream, _asking) = rig.asked();
    // There is room again.
    rig.turn_until(|rig| rig.copied > 0);
}

#[test]
fn the_next_daemon_listens_before_the_one_before_has_ended() {
    let mut rig = Rig::new(&[]);
    let events = (rig.poll.registry(), Token(0));
    rig.giver = Giver::start(&rig.daemon, key(), events).expect("a reload opens it first");
    let (_stream, _asking) = rig.asked();
    rig.turn_until(|rig| rig.copied > 0);
}

#[test]
fn who_is_no_peer_is_told_nothing() {
    let mut rig = Rig::new(&[IpAddr::V4(Ipv4Addr::new(10, 8, 0, 4))]);
    let stream = rig.connect();
    rig.turn_until(|rig| rig.ended(BulkResult::Stranger) > 0);
    assert!(closed(stream));
    assert_eq!(rig.copied, 0);
}

#[test]
fn who_does_not_answer_is_asked_again() {
    let mut daemon = Rig::new(&[HERE]).daemon;
    let silent = TcpListener::bind((HERE, 0)).expect("a port");
    let mut asker = Asker::new(&daemon, key());
    let poll = Poll::new().expect("epoll");
    let mut count = Count::default();
    let (soon, later) = (Duration::from_secs(1), Duration::from_secs(10));
    let refused = |count: &Count| count.numbers.bulk[BulkResult::Unreachable as usize];
    let patience = std::time::Instant::now() + Duration::from_secs(10);
    for (n, now, left) in [(1, BEGIN, soon), (2, BEGIN + soon, later)] {
        // Refused on `lo`, not later than it is given up.
        while refused(&count) < n && std::time::Instant::now() < patience {
            asker.turn(now, (poll.registry(), Token(0)), &mut count);
        }
        assert_eq!(refused(&count), n);
        assert_eq!(asker.left(now), Some(left), "nobody listens");
    }
    daemon.port = silent.local_addr().expect("a socket").port();
    let mut asker = Asker::new(&daemon, key());
    asker.turn(BEGIN, (poll.registry(), Token(0)), &mut count);
    let late = BEGIN + LONG;
    asker.turn(late, (poll.registry(), Token(0)), &mut count);
    assert_eq!(count.numbers.bulk[BulkResult::Slow as usize], 1);
    assert_eq!(asker.left(late), Some(soon), "it says nothing");
}

#[test]
fn another_director_that_is_heard_first_is_asked_then() {
    let daemon = Rig::new(&[]).daemon;
    let mut asker = Asker::new(&daemon, key());
    assert_eq!(asker.left(BEGIN), None);
    asker.heard(BEGIN, HERE, Before::default());
    assert_eq!(asker.left(BEGIN), Some(Duration::ZERO));
}
