//! Hundreds of connections through bad lines on both sides of the director.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use uvs_lab::Families::{V4, V6};
use uvs_lab::relay::{Badness, Carried, Relay};
use uvs_lab::{Lab, Mode, Options};

use crate::judge::{Judge, Talk, counted, sha256};
use crate::peers::{HAPROXY, NGINX, NGINX_STREAM, haproxy, has_streams, nginx};
use crate::stand::{lab, uvs};
use crate::{connect, connections, serve};

/// Connections at once.
const AT_ONCE: usize = 48;
/// Ports of the judges, the first of which is the one behind nginx's streams too; and of the services.
const FIRST: u16 = 9000;
const LAST: u16 = 9001;
const SERVICES: [u16; 5] = [2001, 2002, 2003, 2004, 2005];
/// Bytes that a client of [`Talk::Last`] sends, and gets back.
const BYTES: usize = 30_000;

/// What goes wrong on each line, each way.
const BAD: Badness = Badness {
    lost: 10,
    twice: 15,
    late: 60,
};

/// How a client talks to each of [`SERVICES`].
type Client = fn(&mut TcpStream, SocketAddr);

/// As an SMTP client: nothing before the server has spoken, and then two lines at once.
fn after_the_server(stream: &mut TcpStream, _: SocketAddr) {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        line
    };
    assert_eq!(line(), "220 ready\r\n");
    stream.write_all(b"EHLO a\r\nNOOP\r\n").expect("sent");
    assert_eq!(
        (line(), line()),
        ("250 EHLO a\r\n".to_owned(), "250 NOOP\r\n".to_owned())
    );
    stream.write_all(b"QUIT\r\n").expect("sent");
    assert_eq!(line(), "221 bye\r\n");
}

/// All at once, and then the client's side is closed while the server's answer comes.
fn half_closed(stream: &mut TcpStream, own: SocketAddr) {
    let body: Vec<u8> = (0..BYTES)
        .map(|i| (i * usize::from(own.port()) % 251).to_le_bytes()[0])
        .collect();
    stream.write_all(&body).expect("sent");
    stream.shutdown(Shutdown::Write).expect("closed");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let want = [format!("{BYTES} {}\n", sha256(&body)).into_bytes(), body].concat();
    assert!(answer == want, "{} bytes of {}", answer.len(), want.len());
}

/// Two requests in one segment, and a third behind their answers; each answer names the client.
fn pipelined(stream: &mut TcpStream, own: SocketAddr) {
    let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    stream
        .write_all(request.repeat(2).as_bytes())
        .expect("sent");
    let mut bodies = vec![body(&mut reader), body(&mut reader)];
    stream.write_all(request.as_bytes()).expect("sent");
    bodies.push(body(&mut reader));
    let (addr, port) = (own.ip().to_canonical(), own.port());
    for body in bodies {
        assert!(
            body.starts_with(&format!("{addr} {port} ")),
            "{body:?}: {own}"
        );
    }
}

fn body(reader: &mut impl BufRead) -> String {
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a number");
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    String::from_utf8(body).expect("text")
}

/// Makes so many connections, by turns to these; each one's own end, by the service's place.
fn talk(lab: &Lab, services: &[(SocketAddr, Client)], count: usize) -> Vec<Vec<SocketAddr>> {
    let ends = Mutex::new(vec![Vec::new(); services.len()]);
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return;
            }
            let place = at % services.len();
            let (to, client) = services[place];
            let (mut stream, own) = connect(&lab.client, to);
            client(&mut stream, own);
            ends.lock().expect("whole")[place].push(own);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    ends.into_inner().expect("whole")
}

#[test]
fn every_client_is_named_through_lines_that_lose_repeat_and_reorder() {
    let carried = every_client_is_named(Some(BAD), connections(400));
    println!("lines of client and server: {carried:?}");
    let went_wrong = |c: &Carried| c.lost > 0 && c.twice > 0 && c.late > 0;
    assert!(carried.len() == 2 && carried.iter().all(went_wrong));
}

#[test]
fn every_client_is_named_over_good_lines() {
    every_client_is_named(None, connections(400));
}

/// Makes so many connections, and compares what the judges say with the clients' own list; what the lines have done.
fn every_client_is_named(badness: Option<Badness>, count: usize) -> Vec<Carried> {
    let (lab, _) = lab(Mode::FullNat, Options::default());
    let server = &lab.servers[0].host;
    let (first, last) = (
        Judge::start(server, FIRST, Talk::First),
        Judge::start(server, LAST, Talk::Last),
    );
    let streams = has_streams();
    let (nginx, haproxy) = (nginx(&lab, streams), haproxy(&lab));
    let line = |(host, seed), badness| Relay::start(host, seed, badness, lab.dir());
    let lines = [(&lab.client, 17), (server, 18)];
    let relays = badness.map(|badness| lines.map(|at| line(at, badness).expect("the line")));
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    let serve = |families, place: usize, port, words| {
        serve(&lab, &daemon, families, (SERVICES[place], port), words)
    };
    let v2 = "--proxy-protocol v2 --proxy-authority shop.example --timestamps offset";
    let mut services: Vec<(SocketAddr, Client)> = vec![
        (serve(V4, 0, FIRST, v2), after_the_server),
        (serve(V6, 1, LAST, "--proxy-protocol v1"), half_closed),
        (serve(V4, 2, NGINX, v2), pipelined),
    ];
    if haproxy.is_some() {
        services.push((serve(V4, 3, HAPROXY, "--proxy-protocol v1"), pipelined));
    }
    if streams {
        services.push((serve(V4, 4, NGINX_STREAM, v2), after_the_server));
    }
    let shown = daemon.uvs("show services -o wide").expect("shown").stdout;
    let row = shown.lines().find(|row| row.contains(":2001 "));
    let row = row.expect("the service's row");
    assert!(
        row.contains(" proxy-v2 ") && row.contains(" offset "),
        "{shown}"
    );
    let since = Instant::now();
    let ends = talk(&lab, &services, count);
    println!("{count} connections in {:?}", since.elapsed());
    let through_nginx = ends.last().filter(|_| streams).into_iter().flatten();
    let smtp = ends[0].iter().chain(through_nginx).copied();
    assert!(first.named() == counted(smtp), "SMTP-like");
    assert!(last.named() == counted(ends[1].clone()), "half-closed");
    let logged: BTreeMap<SocketAddr, usize> =
        counted(nginx.access_log().lines().filter_map(logged));
    let asked = ends[2].iter().flat_map(|end| [*end; 3]);
    assert!(
        logged == counted(asked),
        "nginx's log has each client three times"
    );
    if !streams {
        assert_eq!(first.last().authority.as_deref(), Some("shop.example"));
    }
    daemon.stop().expect("it ends well");
    let relays = relays.into_iter().flatten();
    relays
        .map(|relay| relay.finish().expect("it says what it did"))
        .collect()
}

/// A line of nginx's log, of a request that was answered: not of the test that asked whether nginx is there.
fn logged(line: &str) -> Option<SocketAddr> {
    let [addr, port, "200"] = line.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let addr: IpAddr = addr.parse().ok()?;
    Some(SocketAddr::new(addr, port.parse().ok()?))
}
