//! A client and a daemon that says what a test wants, over real sockets.

use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use super::*;
use crate::client::Asking;
use crate::protocol::{Change, Errno, SysctlRequest, ask};

#[test]
fn a_reply_comes_back_and_the_connection_is_kept() {
    let (dir, server) = serve(2, |request| {
        let refusal = Refusal {
            errno: Errno::NotFound,
            message: "TCP 10.0.0.1:80: no such service".into(),
        };
        let result = if request.id == 1 {
            Ok("done")
        } else {
            Err(refusal)
        };
        serde_json::to_string(&Reply {
            id: request.id,
            result,
            more: false,
        })
        .expect("json")
    });
    let mut client = Client::new(dir.path().join("s"));
    client.change(Change::Clear).expect("done");
    let error = client.change(Change::Clear).expect_err("refused");
    assert_eq!(error.to_string(), "TCP 10.0.0.1:80: no such service");
    server
        .join()
        .expect("both requests came over one connection");
}

#[test]
fn a_listing_in_parts_is_joined() {
    let (dir, _server) = serve(1, |_| {
        let part = |more| {
            format!("{{\"id\":1,\"result\":{{\"Ok\":{{\"connections\":[{CONNECTION}]}}}}{more}}}")
        };
        part(",\"more\":true") + "\n" + &part("")
    });
    let all = Client::new(dir.path().join("s")).ask(ask::ListConnections);
    assert_eq!(all.expect("a listing").len(), 2);
}

#[test]
fn an_answer_in_parts_to_what_is_answered_whole_is_unexpected() {
    let (dir, _server) = serve(1, |_| {
        let part = r#"{"id":1,"result":{"Ok":{"sysctl":1}},"more":true}"#;
        format!("{part}\n{part}")
    });
    let error = Client::new(dir.path().join("s"))
        .ask(ask::Sysctl(SysctlRequest {
            name: "drop_entry".to_owned(),
            value: None,
        }))
        .expect_err("one value");
    assert!(matches!(error, CallError::Unexpected { .. }), "{error}");
}

const CONNECTION: &str = r#"{"service":{"address":{"protocol":"tcp","addr":"10.0.0.1","port":80}},"protocol":"tcp","client":{"addr":"10.0.0.9","port":1},"vip":{"addr":"10.0.0.1","port":80},"server":{"addr":"10.0.0.2","port":80},"local":null,"state":"ESTABLISHED","expires":900,"idle_ns":0,"sequence":null}"#;

#[test]
fn a_daemon_that_refuses_the_client_itself_is_understood() {
    let (dir, _server) = serve(1, |_| {
        r#"{"id":0,"result":{"Err":{"errno":"failed","message":"too many clients"}}}"#.to_owned()
    });
    let error = Client::new(dir.path().join("s"))
        .ask(ask::Info)
        .expect_err("refused");
    assert_eq!(error.to_string(), "too many clients");
}

#[test]
fn nobody_there_is_told_with_the_socket_and_the_command_that_helps() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("nothing.sock");
    let error = Client::new(socket.clone())
        .ask(ask::Info)
        .expect_err("no daemon")
        .to_string();
    assert!(
        error.contains(&socket.display().to_string()) && error.contains("uvs run"),
        "{error}"
    );
    assert!(!error.contains('\n'));
}

#[test]
fn a_daemon_that_is_starting_is_waited_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("s");
    let lock = std::fs::File::create(dir.path().join("s.lock")).expect("a lock");
    lock.try_lock().expect("locked");
    let at = path.clone();
    let server = thread::spawn(move || {
        sleep(4 * FIRST_SIGN);
        let listener = UnixListener::bind(at).expect("a socket");
        answer_all(&listener, 1, |_| {
            r#"{"id":1,"result":{"Ok":"done"}}"#.to_owned()
        });
    });
    Client::new(path).change(Change::Clear).expect("done");
    server.join().expect("it was asked");
    drop(lock);
}

#[test]
fn another_protocol_or_a_hang_up_is_told() {
    for reply in [
        r#"{"id":1,"result":{"Ok":"something_new"}}"#,
        r#"{"id":1,"result":{"Ok":{"timeouts":{"tcp":900,"tcp_fin":120,"udp":300}}}}"#,
        r#"{"id":2,"result":{"Ok":"done"}}"#,
        "HTTP/1.1 400 Bad Request",
    ] {
        let (dir, _server) = serve(1, move |_| reply.to_owned());
        let mut client = Client::new(dir.path().join("s"));
        let error = client.ask(ask::Info).expect_err("no answer to that");
        assert!(matches!(error, CallError::Unexpected { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("unexpected reply") && text.contains("restart"),
            "{text}"
        );
    }
    let (dir, _server) = serve(0, |_| String::new());
    let error = Client::new(dir.path().join("s"))
        .ask(ask::Info)
        .expect_err("hung up");
    assert!(matches!(error, CallError::Broken { .. }), "{error}");
}

/// Answers `count` requests of one connection, then hangs up.
fn serve(
    count: usize,
    answer: impl Fn(Request) -> String + Send + 'static,
) -> (tempfile::TempDir, JoinHandle<()>) {
    let dir = tempfile::tempdir().expect("a directory");
    let listener = UnixListener::bind(dir.path().join("s")).expect("a socket");
    let server = thread::spawn(move || answer_all(&listener, count, answer));
    (dir, server)
}

fn answer_all(listener: &UnixListener, count: usize, answer: impl Fn(Request) -> String) {
    let (stream, _) = listener.accept().expect("a client");
    let mut reader = BufReader::new(stream);
    for _ in 0..count {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a request");
        let request = serde_json::from_str(&line).expect("json");
        reader
            .get_mut()
            .write_all((answer(request) + "\n").as_bytes())
            .expect("sent");
    }
}
