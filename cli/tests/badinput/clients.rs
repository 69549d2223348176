//! Control clients that do not behave. Each is answered or disconnected, and nobody else waits for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::UnixStream;

use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::stand::{PATIENCE, lab, must_serve, run, serving};

/// Connections whose listing no socket buffer holds (about 200 bytes each).
const CONNECTIONS: u16 = 6000;

fn client(daemon: &Daemon<'_>) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn answer(stream: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .expect("an answer");
    line
}

#[test]
fn garbage_is_answered_by_what_is_wrong_with_it() {
    let (lab, _) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let table: [(&[u8], &str); 7] = [
        (b"hello\n", "not a request of uvs's control protocol"),
        (b"\n", "not a request of uvs's control protocol"),
        (
            b"\xff\xfe\x00\x01\n",
            "not a request of uvs's control protocol",
        ),
        (b"[[[[[[[[\n", "not a request of uvs's control protocol"),
        (b"{\"version\":1,\"id\":7}\n", "not a known command"),
        (
            b"{\"version\":1,\"id\":7,\"command\":\"fly\"}\n",
            "not a known command",
        ),
        (
            b"{\"version\":99,\"id\":7,\"command\":\"info\"}\n",
            "protocol version 99 is not spoken here",
        ),
    ];
    for (line, said) in table {
        let mut stream = client(&daemon);
        stream.write_all(line).expect("it reads");
        let answer = answer(&stream);
        assert!(answer.contains(said), "{said}: {answer}");
        // It stays a client like any other.
        stream
            .write_all(b"{\"version\":1,\"id\":8,\"command\":\"get_timeouts\"}\n")
            .expect("it reads");
        let answer = self::answer(&stream);
        assert!(
            answer.contains("\"id\":8") && answer.contains("900"),
            "{answer}"
        );
    }
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn an_endless_line_is_refused() {
    let (lab, _) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let mut stream = client(&daemon);
    // More than the limit; the daemon may close before all of it is written.
    let _ = stream.write_all(&vec![b'x'; 3 << 20]);
    let mut said = Vec::new();
    // Closed with bytes unread, it may end by a reset after the answer.
    let _ = stream.read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("a request is one line of at most 1048576 bytes"),
        "{said}"
    );
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn clients_that_say_nothing_or_half_a_line_keep_nobody_waiting() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let silent = client(&daemon);
    let mut half = client(&daemon);
    half.write_all(b"{\"version\":1,\"id\":").expect("it reads");
    let gone = client(&daemon);
    (&gone).write_all(b"{\"version\":1").expect("it reads");
    gone.shutdown(Shutdown::Both).expect("closed");
    let listed = run(&lab, &shell, "ipvsadm -ln");
    assert_eq!(listed.code, Some(0), "{listed:?}");
    must_serve(&lab, &daemon);
    // The rest of the line may still come.
    half.write_all(b"3,\"command\":\"get_timeouts\"}\n")
        .expect("it reads");
    let answer = answer(&half);
    assert!(answer.contains("\"id\":3"), "{answer}");
    drop(silent);
    daemon.stop().expect("it ends well");
}

#[test]
fn a_client_that_never_reads_a_long_listing_keeps_nobody_waiting() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let daemon = serving(&lab);
    connect_many(&lab, &daemon);
    let mut never = client(&daemon);
    never
        .write_all(b"{\"version\":1,\"id\":1,\"command\":\"list_connections\"}\n")
        .expect("it reads");
    let mut slow = client(&daemon);
    slow.write_all(b"{\"version\":1,\"id\":2,\"command\":\"list_connections\"}\n")
        .expect("it reads");
    must_serve(&lab, &daemon);
    let listed = run(&lab, &shell, "ipvsadm -Lcn | grep -c ' UDP '");
    let listed: u16 = listed.stdout.trim().parse().expect("a number");
    assert_eq!(listed, CONNECTIONS);
    // One that reads late gets all of it.
    let mut rows = 0;
    for line in BufReader::new(&slow).lines() {
        let line = line.expect("a part");
        rows += line.matches("\"state\":\"UDP\"").count();
        if !line.contains("\"more\":true") {
            break;
        }
    }
    assert_eq!(rows, usize::from(CONNECTIONS));
    drop(never);
    daemon.stop().expect("it ends well");
}

/// A UDP connection from each of many ports of the client's.
fn connect_many(lab: &Lab, daemon: &Daemon<'_>) {
    let vip = lab.plan.vip;
    for words in [
        format!("-A -u {vip} -s rr"),
        format!("-a -u {vip} -r {} -m", lab.plan.servers[0]),
    ] {
        daemon.ipvsadm(&words).expect("the command is carried out");
    }
    let send = || -> std::io::Result<()> {
        for port in 20_000..20_000 + CONNECTIONS {
            let socket = UdpSocket::bind(("0.0.0.0", port))?;
            socket.send_to(b"?", vip)?;
        }
        Ok(())
    };
    let sent = lab.client.enter(send).expect("in the client's namespace");
    sent.expect("it is sent");
    crate::stand::eventually("every datagram made its connection", || {
        let info = daemon.uvs("show info").expect("info").stdout;
        info.contains(&format!("{CONNECTIONS} of "))
    });
}
