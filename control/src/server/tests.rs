//! Clients that behave and clients that do not, over real sockets in virtual time.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use mio::{Events, Poll};
use serde_json::Value;
use tempfile::TempDir;
use uvs_core::engine::ConnReport;
use uvs_core::flow::{Endpoint, Protocol};
use uvs_core::service::ServiceKey;

use super::client::{MAX_LINE, PATIENCE, REST};
use super::*;
use crate::protocol::{Ask, Change, Encoded, Question, SysctlRequest, SysctlValue, ask};

const FIRST: Token = Token(100);
/// Turns after which something that should have happened is taken not to.
const TURNS: usize = 200;

/// A server, the poll that drives it, and a time of its own.
struct Rig {
    poll: Poll,
    server: Server,
    now: Instant,
    dir: TempDir,
    calls: Vec<Call>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Server::bind(&dir.path().join("run/control.sock")).unwrap();
        let poll = Poll::new().unwrap();
        server.register(poll.registry(), FIRST).unwrap();
        Self {
            poll,
            server,
            now: Instant::now(),
            dir,
            calls: Vec::new(),
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("run/control.sock")
    }

    fn connect(&self) -> TestClient {
        let stream = UnixStream::connect(self.path()).unwrap();
        stream.set_nonblocking(true).unwrap();
        TestClient {
            input: Vec::new(),
            stream,
        }
    }

    /// One turn: every call of it is kept in `calls`.
    fn turn(&mut self) {
        let mut events = Events::with_capacity(128);
        self.poll
            .poll(&mut events, Some(Duration::from_millis(5)))
            .unwrap();
        self.server.turn(&events, self.now);
        while let Some(call) = self.server.next(self.now) {
            self.calls.push(call);
        }
    }

    fn turn_until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        for _ in 0..TURNS {
            self.turn();
            if done(self) {
                return;
            }
        }
        panic!("never happened: {what}");
    }

    fn call(&mut self) -> Call {
        self.turn_until("a call", |rig| !rig.calls.is_empty());
        self.calls.remove(0)
    }

    fn answer(&mut self, call: &Call, answer: Answer) {
        self.server.answer(call.ticket, answer, self.now);
    }

    fn done(&mut self, call: &Call) {
        self.answer(call, Answer::Last(Ok(encoded::<ask::Reload>(()))));
    }

    fn reply(&mut self, to: &mut TestClient) -> Value {
        let mut line = None;
        self.turn_until("a reply", |_| {
            line = to.line();
            line.is_some()
        });
        serde_json::from_str(&line.unwrap()).unwrap()
    }

    /// A whole command and its answer, to show that the server still serves.
    fn assert_serves(&mut self) {
        let mut talker = self.connect();
        talker.ask(7, "\"clear\"");
        let call = self.call();
        assert!(
            matches!(call.task, Task::Command(Command::Change(Change::Clear))),
            "{call:?}"
        );
        self.done(&call);
        assert_eq!(
            self.reply(&mut talker),
            serde_json::json!({"id": 7, "result": {"Ok": "done"}})
        );
    }
}

/// The other end of a connection.
struct TestClient {
    stream: UnixStream,
    input: Vec<u8>,
}

impl TestClient {
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    fn ask(&mut self, id: u64, command: &str) {
        self.send(format!("{{\"version\":1,\"id\":{id},\"command\":{command}}}\n").as_bytes());
    }

    /// Reads what is there; whether the server has hung up.
    fn read(&mut self) -> bool {
        let mut chunk = [0; 65536];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return true,
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        self.read();
        let end = self.input.iter().position(|&b| b == b'\n')?;
        Some(String::from_utf8(self.input.drain(..=end).collect()).unwrap())
    }
}

fn encoded<Q: Question>(answer: Q::Answer) -> Encoded {
    Q::encode(answer).unwrap()
}

fn sysctl(number: i32) -> Encoded {
    encoded::<ask::Sysctl>(SysctlValue::Number(number))
}

fn rest(cursor: u64) -> Rest {
    Rest::ListConnections(ask::ListConnections, cursor)
}

fn message(reply: &Value) -> &str {
    reply["result"]["Err"]["message"].as_str().unwrap()
}

#[test]
fn the_socket_is_made_with_its_directory_and_modes_and_goes_with_the_server() {
    let rig = Rig::new();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let directory = rig.path().parent().unwrap().to_owned();
    assert_eq!(mode(&rig.path()), 0o660);
    assert_eq!(mode(&directory), 0o755);
    drop(rig.server);
    assert_eq!(
        directory.read_dir().unwrap().count(),
        0,
        "neither socket nor lock is left"
    );
}

#[test]
fn a_command_is_answered_at_once_or_later() {
    let mut rig = Rig::new();
    rig.assert_serves();
    let mut talker = rig.connect();
    talker.ask(1, "\"reload\"");
    let call = rig.call();
    assert_eq!(
        (call.author.peer.pid, call.author.peer.uid),
        (std::process::id().cast_signed(), rig.server.uid)
    );
    for _ in 0..5 {
        rig.turn();
    }
    assert!(talker.line().is_none(), "nothing is said before the answer");
    rig.done(&call);
    assert_eq!(rig.reply(&mut talker)["id"], 1);
}

#[test]
fn clients_take_turns_and_each_gets_its_own_answers() {
    let mut rig = Rig::new();
    let mut clients = [rig.connect(), rig.connect()];
    for (i, talker) in clients.iter_mut().enumerate() {
        let id = 10 * i as u64;
        talker.ask(id + 1, "\"info\"");
        talker.ask(id + 2, "\"drops\"");
    }
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let call = rig.call();
        kinds.push(matches!(call.task, Task::Command(Command::Ask(Ask::Info))));
        let number = if kinds[kinds.len() - 1] { 1 } else { 2 };
        rig.answer(&call, Answer::Last(Ok(sysctl(number))));
    }
    assert_eq!(
        kinds,
        [true, true, false, false],
        "one request of each client a turn"
    );
    for (i, talker) in clients.iter_mut().enumerate() {
        for n in 1..=2 {
            let reply = rig.reply(talker);
            assert_eq!(reply["id"], 10 * i + n);
            assert_eq!(reply["result"]["Ok"]["sysctl"], n);
        }
    }
}

#[test]
fn garbage_is_answered_and_the_connection_stays() {
    let mut rig = Rig::new();
    let mut talker = rig.connect();
    for (line, id, said) in [
        (
            "GET / HTTP/1.1",
            0,
            "not a request of uvs's control protocol",
        ),
        ("\u{fffd}\u{0}", 0, "not a request"),
        ("", 0, "not a request"),
        ("{\"version\":1}", 0, "missing field `id`"),
        (
            "{\"version\":2,\"id\":5,\"command\":\"x\"}",
            5,
            "protocol version 2 is not spoken here",
        ),
        (
            "{\"version\":1,\"id\":6,\"command\":\"fly\"}",
            6,
            "unknown variant `fly`",
        ),
        (
            "{\"version\":1,\"id\":7,\"command\":{\"sysctl\":{\"nam\":\"x\"}}}",
            7,
            "unknown field `nam`",
        ),
        (
            "{\"version\":1,\"id\":8,\"command\":{\"add_server\":[{\"address\":{\"protocol\":\"tcp\",\"addr\":\"10.0.0.1\",\"port\":80}},\
             {\"endpoint\":{\"addr\":\"10.0.0.2\",\"port\":80},\"forwarding\":\"nat\",\"wieght\":5}]}}",
            8,
            "command.1.wieght: unknown; docs/api.md",
        ),
        (
            "{\"version\":1,\"id\":9,\"command\":{\"add_server\":[{\"address\":{\"protocol\":\"tcp\",\"addr\":\"10.0.0.1\",\"port\":80}},\
             {\"endpoint\":{\"addr\":\"10.0.0.2\",\"port\":80},\"forwarding\":\"nat\",\"weight\":\"5\"}]}}",
            9,
            "command.add_server[1].weight: invalid type: string \"5\", expected u32",
        ),
    ] {
        talker.send(line.as_bytes());
        talker.send(b"\n");
        let reply = rig.reply(&mut talker);
        assert_eq!(
            (&reply["id"], &reply["result"]["Err"]["errno"]),
            (&id.into(), &"invalid".into())
        );
        assert!(message(&reply).contains(said), "{line:?}: {reply}");
    }
    talker.send(b"\xff\xfe\n");
    assert!(message(&rig.reply(&mut talker)).contains("not a request"));
    talker.ask(8, "\"info\"");
    assert!(
        matches!(rig.call().task, Task::Command(Command::Ask(Ask::Info))),
        "the same connection goes on"
    );
}

#[test]
fn half_a_line_is_waited_for_but_not_for_ever() {
    let mut rig = Rig::new();
    let mut slow = rig.connect();
    slow.send(b"{\"version\":1,\"id\":1,");
    rig.turn_until("connected", |rig| {
        rig.server.clients.iter().flatten().count() == 1
    });
    rig.turn();
    assert_eq!(rig.server.timeout(rig.now), Some(PATIENCE));
    rig.now += PATIENCE / 2;
    slow.send(b"\"command\":\"cl");
    rig.assert_serves();
    rig.now += PATIENCE / 2;
    rig.turn_until("hung up", |_| slow.read());
    rig.assert_serves();
}

#[test]
fn the_rest_of_a_line_in_time_makes_a_request() {
    let mut rig = Rig::new();
    let mut slow = rig.connect();
    for piece in [
        "{\"version\":1,",
        "\"id\":1,\"comm",
        "and\":\"clear\"}",
        "\n",
    ] {
        slow.send(piece.as_bytes());
        rig.turn();
        rig.now += PATIENCE / 8;
    }
    assert!(matches!(
        rig.call().task,
        Task::Command(Command::Change(Change::Clear))
    ));
}

#[test]
fn a_client_that_says_nothing_keeps_its_place_for_a_while() {
    let mut rig = Rig::new();
    let mut silent = rig.connect();
    rig.turn_until("connected", |rig| {
        rig.server.clients.iter().flatten().count() == 1
    });
    rig.now += REST - PATIENCE;
    rig.assert_serves();
    assert!(!silent.read());
    rig.now += PATIENCE;
    rig.turn_until("hung up", |_| silent.read());
}

#[test]
fn an_unfinished_answer_has_no_limit_of_time() {
    let mut rig = Rig::new();
    let mut talker = rig.connect();
    talker.ask(1, "\"reload\"");
    let call = rig.call();
    rig.now += 10 * REST;
    rig.turn();
    rig.done(&call);
    assert_eq!(rig.reply(&mut talker)["id"], 1);
}

fn part(connections: usize) -> Encoded {
    let end = Endpoint::NONE;
    let connection = ConnReport {
        service: ServiceKey::address(Protocol::Tcp, end),
        protocol: Some(Protocol::Tcp),
        client: end,
        vip: end,
        server: end,
        local: None,
        state: "ESTABLISHED",
        expires: 900,
        idle_ns: 0,
        sequence: None,
        call: None,
        in_kernel: false,
    };
    encoded::<ask::ListConnections>(vec![connection; connections])
}

#[test]
fn a_listing_comes_in_parts_and_the_next_is_asked_for_when_there_is_room() {
    let mut rig = Rig::new();
    let mut talker = rig.connect();
    talker.ask(3, "\"list_connections\"");
    for cursor in [100, 200] {
        let call = rig.call();
        rig.answer(&call, Answer::Part(part(100), rest(cursor)));
        let reply = rig.reply(&mut talker);
        assert_eq!((&reply["id"], &reply["more"]), (&3.into(), &true.into()));
        assert_eq!(
            reply["result"]["Ok"]["connections"]
                .as_array()
                .unwrap()
                .len(),
            100
        );
    }
    let call = rig.call();
    assert!(
        matches!(call.task, Task::Rest(Rest::ListConnections(_, 200))),
        "{call:?}"
    );
    rig.answer(&call, Answer::Last(Ok(part(1))));
    let reply = rig.reply(&mut talker);
    assert_eq!((&reply["id"], &reply["more"]), (&3.into(), &Value::Null));
    talker.ask(4, "\"info\"");
    assert!(matches!(
        rig.call().task,
        Task::Command(Command::Ask(Ask::Info))
    ));
}

#[test]
fn a_client_that_never_reads_holds_one_part_and_is_dropped() {
    let mut rig = Rig::new();
    let mut deaf = rig.connect();
    deaf.ask(1, "\"list_connections\"");
    let mut parts = 0;
    for _ in 0..TURNS {
        rig.turn();
        while let Some(call) = rig.calls.pop() {
            parts += 1;
            rig.answer(&call, Answer::Part(part(1000), rest(parts)));
        }
    }
    assert!(
        parts < 20,
        "{parts} parts of about 200 KB were asked for without a reader"
    );
    rig.assert_serves();
    rig.now += PATIENCE;
    rig.turn_until("hung up", |_| deaf.read());
    rig.assert_serves();
}

#[test]
fn a_line_that_is_too_long_is_refused_and_the_client_disconnected() {
    let mut rig = Rig::new();
    let mut endless = rig.connect();
    let mut sent = 0;
    rig.turn_until("told", |_| {
        sent += endless.stream.write(&[b'x'; 65536]).unwrap_or(0);
        endless.read();
        !endless.input.is_empty()
    });
    assert!(sent > MAX_LINE, "{sent}");
    let said = String::from_utf8(endless.input.clone()).unwrap();
    assert!(said.contains("at most 1048576 bytes"), "{said}");
    rig.turn_until("hung up", |_| endless.read());
    rig.assert_serves();
}

#[test]
fn one_client_too_many_is_told_so() {
    let mut rig = Rig::new();
    let clients: Vec<TestClient> = (0..MAX_CLIENTS).map(|_| rig.connect()).collect();
    rig.turn_until("all connected", |rig| {
        rig.server.clients.iter().flatten().count() == MAX_CLIENTS
    });
    let mut late = rig.connect();
    assert!(message(&rig.reply(&mut late)).contains("64 clients are connected already"));
    rig.turn_until("hung up", |_| late.read());
    drop(clients);
    rig.turn_until("room", |rig| rig.server.clients.iter().all(Option::is_none));
    rig.assert_serves();
}

#[test]
fn an_answer_to_a_client_that_has_gone_reaches_nobody_else() {
    let mut rig = Rig::new();
    let mut gone = rig.connect();
    gone.ask(1, "\"info\"");
    let call = rig.call();
    drop(gone);
    rig.done(&call);
    rig.turn_until("noticed", |rig| {
        rig.server.clients.iter().all(Option::is_none)
    });
    let mut next = rig.connect();
    next.ask(2, "\"info\"");
    let second = rig.call();
    assert_eq!(second.ticket.slot, call.ticket.slot);
    rig.answer(&call, Answer::Last(Ok(sysctl(1))));
    rig.answer(&second, Answer::Last(Ok(sysctl(2))));
    assert_eq!(rig.reply(&mut next)["result"]["Ok"]["sysctl"], 2);
}

#[test]
fn looking_is_for_all_and_changing_for_root_and_the_daemons_user() {
    let mut rig = Rig::new();
    rig.server.uid = 1000;
    let stranger = Peer { pid: 1, uid: 1001 };
    let set = |value| {
        let name = "drop_entry".to_owned();
        Command::from(ask::Sysctl(SysctlRequest { name, value }))
    };
    for looking in [
        ask::Info.into(),
        ask::Drops.into(),
        ask::Traffic.into(),
        ask::ListServices(None).into(),
        set(None),
    ] {
        assert_eq!(rig.server.authorise(&looking, stranger), Ok(()));
    }
    for change in [
        Change::Clear.into(),
        ask::Batch(Vec::new()).into(),
        ask::Reload.into(),
        ask::TraceLiveSeen.into(),
        ask::Zero(None).into(),
        set(Some(SysctlValue::Number(1))),
    ] {
        let refusal = rig.server.authorise(&change, stranger).unwrap_err();
        assert_eq!(refusal.errno, Errno::Permission);
        assert!(refusal.message.contains("user 1001"), "{}", refusal.message);
        for allowed in [0, 1000] {
            let peer = Peer {
                uid: allowed,
                ..stranger
            };
            assert_eq!(rig.server.authorise(&change, peer), Ok(()));
        }
    }
}

#[test]
fn the_socket_has_its_name_only_once_it_answers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        names.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        names.drain(..).map(name).collect::<Vec<_>>()
    };
    drop(UnixListener::bind(&path).unwrap());
    let mut server = Server::bind(&path).unwrap();
    assert!(!path.exists());
    let poll = Poll::new().unwrap();
    server.register(poll.registry(), FIRST).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    assert_eq!(names(), ["s", "s.lock"]);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    drop(server);
    assert!(names().is_empty());
    drop(Server::bind(&path).unwrap());
    assert!(names().is_empty(), "a start that came to nothing");
}

#[test]
fn what_came_to_the_path_during_the_start_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let mut server = Server::bind(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    let poll = Poll::new().unwrap();
    let error = server.register(poll.registry(), FIRST).unwrap_err();
    assert!(error.to_string().contains("is not a socket"), "{error}");
    drop(server);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_second_daemon_on_the_socket_is_told_whose_it_is() {
    let mut rig = Rig::new();
    let error = Server::bind(&rig.path()).unwrap_err().to_string();
    assert!(
        error.contains(&format!("pid {}", std::process::id())),
        "{error}"
    );
    assert!(error.contains(&rig.path().display().to_string()), "{error}");
    rig.assert_serves();
}

#[test]
fn a_listener_that_takes_no_lock_is_not_replaced_either() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(matches!(
        Server::bind(&path),
        Err(BindError::InUse { pid: Some(_), .. })
    ));
    assert!(UnixStream::connect(&path).is_ok());
    drop(listener);
    drop(Server::bind(&path).expect("a socket that nobody serves is replaced"));
}

#[test]
fn a_killed_daemons_socket_and_lock_are_taken_over() {
    let mut rig = Rig::new();
    let path = rig.path();
    rig.server = Server::bind(&rig.dir.path().join("other")).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    std::fs::write(path.with_extension("sock.lock"), "").unwrap();
    rig.server = Server::bind(&path).unwrap();
    rig.server.register(rig.poll.registry(), FIRST).unwrap();
    rig.assert_serves();
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uvs.toml");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Server::bind(&path), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn another_daemons_socket_at_the_same_path_survives_our_end() {
    let rig = Rig::new();
    std::fs::remove_file(rig.path()).unwrap();
    let successor = UnixListener::bind(rig.path()).unwrap();
    let path = rig.path();
    drop(rig.server);
    assert!(UnixStream::connect(path).is_ok());
    drop(successor);
}

#[test]
fn a_reader_gets_a_long_listing_whole() {
    let mut rig = Rig::new();
    let stream = UnixStream::connect(rig.path()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut lines = BufReader::new(&stream);
        (&stream)
            .write_all(b"{\"version\":1,\"id\":1,\"command\":\"list_connections\"}\n")
            .unwrap();
        let mut bytes = 0;
        loop {
            let mut line = String::new();
            bytes += lines.read_line(&mut line).unwrap();
            if !line.contains("\"more\":true") {
                return bytes;
            }
        }
    });
    let mut parts = 0;
    rig.turn_until("listed", |rig| {
        while let Some(call) = rig.calls.pop() {
            parts += 1;
            let last = parts == 20;
            let answer = if last {
                Answer::Last(Ok(part(0)))
            } else {
                Answer::Part(part(5000), rest(parts))
            };
            rig.answer(&call, answer);
        }
        parts == 20 && rig.server.later.is_empty()
    });
    assert!(
        reader.join().unwrap() > 19 * 5000 * 100,
        "19 parts of 5000 connections"
    );
}
