//! `uvs weight`, `uvs undrain` and `uvs kill`, on real traffic.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use uvs_lab::Lab;

use crate::Configured;
use crate::stand::{PATIENCE, ask, ask_over, shares};

#[test]
fn weights_are_set_drained_and_had_back() {
    let on = Configured::new("");
    let daemon = on.daemon();
    assert_eq!(ask(&on.lab).expect("answers"), shares(30, 10));
    let set = on.succeed("uvs weight 192.168.0.18 1");
    assert_eq!(
        set,
        "TCP 192.168.0.38:80: server 192.168.0.18:80: weight 3 -> 1\n"
    );
    assert_eq!(ask(&on.lab).expect("answers"), shares(20, 20));
    let set = on.succeed("uvs weight 192.168.0.28:80 4 --service 192.168.0.38 -o json");
    let set: serde_json::Value = serde_json::from_str(&set).expect("JSON");
    assert_eq!(
        (&set[0]["before"], &set[0]["after"]),
        (&1.into(), &4.into())
    );
    on.succeed("uvs drain --no-wait 192.168.0.28");
    assert_eq!(ask(&on.lab).expect("answers"), shares(40, 0));
    on.succeed("uvs undrain 192.168.0.28");
    assert_eq!(on.weights(), [1, 4], "what it had, not what the file says");
    for (script, code, said) in [
        (
            "uvs weight 10.9.9.9 1",
            1,
            "no service has this real server",
        ),
        ("uvs undrain 10.9.9.9", 1, "no service has this real server"),
        (
            "uvs weight 192.168.0.18 1 --service 10.9.9.9",
            1,
            "no service has this real server",
        ),
        ("uvs weight 192.168.0.18 -1", 2, "-1"),
        ("uvs weight 192.168.0.18 2147483648", 2, "2147483647"),
        ("uvs weight rs1 1", 2, "10.0.0.2:80"),
    ] {
        let ended = on.run(script);
        assert_eq!(ended.code, Some(code), "{script}: {ended:?}");
        assert!(ended.stderr.contains(said), "{script}: {ended:?}");
    }
    daemon.stop().expect("it ends well");
}

/// A connection of the client's that has asked once and is idle now.
fn idle_connection(lab: &Lab) -> TcpStream {
    let vip = lab.plan.vip;
    let connect = || TcpStream::connect(vip).expect("a connection");
    let mut stream = lab.client.enter(connect).expect("the client's namespace");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    ask_over(&mut stream);
    stream
}

fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().expect("an address").port()
}

#[test]
fn connections_that_are_killed_are_told_as_the_service_says() {
    let on = Configured::new("on_removal = \"tell\"");
    let mut daemon = on.daemon();
    let conns = || on.succeed("uvs show conns").lines().count() - 1;
    let (mut first, mut second) = (idle_connection(&on.lab), idle_connection(&on.lab));
    let client = first.local_addr().expect("an address").ip();
    let gone = port(&first);
    let killed = on.succeed(&format!("uvs kill --client {client}:{}", port(&first)));
    assert_eq!(killed, "1 connection ended, the ends of 1 were told\n");
    let error = first.read(&mut [0; 1]).expect_err("it is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    ask_over(&mut second);
    for nobody in [
        "--client 10.9.9.0/24",
        "--server 192.168.0.48",
        "--protocol udp",
        "--state syn_recv",
    ] {
        let killed = on.succeed(&format!("uvs kill {nobody}"));
        assert_eq!(killed, "0 connections ended\n", "{nobody}");
    }
    ask_over(&mut second);
    let killed =
        on.succeed("uvs kill --service 192.168.0.38:80 --protocol tcp --state established -o json");
    let killed: serde_json::Value = serde_json::from_str(&killed).expect("JSON");
    assert_eq!(killed, serde_json::json!({"killed": 1, "told": 1}));
    let error = second.read(&mut [0; 1]).expect_err("it is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let third = idle_connection(&on.lab);
    let all = on.succeed("uvs kill --all --silent");
    assert!(
        all.contains("connections ended\n") || all == "1 connection ended\n",
        "{all}"
    );
    assert_eq!(conns(), 0);
    third
        .set_read_timeout(Some(std::time::Duration::from_millis(300)))
        .expect("set");
    let silence = (&third)
        .read(&mut [0; 1])
        .expect_err("nobody says anything");
    assert_eq!(silence.kind(), ErrorKind::WouldBlock);
    let told = format!(
        "1 killed of: connections from {client}/32 port {gone}; the ends of 1 were told, by uid 0 pid "
    );
    daemon
        .wait_log(&told)
        .unwrap_or_else(|e| panic!("{told}: {e}"));
    for (script, code, said) in [
        ("uvs kill", 2, "say which connections"),
        (
            "uvs kill --state sleeping",
            1,
            "there is no state \"SLEEPING\"",
        ),
        ("uvs kill --all --client 10.0.0.1", 2, "cannot be used with"),
        ("uvs kill --service 10.9.9.9:80", 1, "no such service"),
    ] {
        let ended = on.run(script);
        assert_eq!(ended.code, Some(code), "{script}: {ended:?}");
        assert!(ended.stderr.contains(said), "{script}: {ended:?}");
    }
    daemon.stop().expect("it ends well");
}
