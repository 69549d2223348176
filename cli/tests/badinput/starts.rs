//! A daemon that cannot start says why and what to do, and leaves nothing behind.

use uvs_lab::{Lab, Mode, Options};

use crate::stand::{lab, must_serve, run, serving};

/// Without any capability, which is what makes a user not root.
const NOT_ROOT: &str = "setpriv --bounding-set=-all --ambient-caps=-all --inh-caps=-all";
const NO_RAW: &str = "setpriv --bounding-set=-net_raw --ambient-caps=-net_raw --inh-caps=-net_raw";

#[test]
fn what_is_missing_is_named_and_nothing_is_left_behind() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let table = [
        (
            "uvs run --interface nope0".to_owned(),
            1,
            "no interface `nope0`; this host has: eth0",
        ),
        (
            "uvs run --interface lo".to_owned(),
            1,
            "interface `lo` is not Ethernet",
        ),
        (
            "uvs run --interface eth0 --interface eth0".to_owned(),
            1,
            "interface `eth0` is given twice",
        ),
        ("uvs run".to_owned(), 2, "`--interface IF`"),
        (
            "uvs run --interface eth0 --socket /etc/passwd".to_owned(),
            1,
            "/etc/passwd: is there and is not a socket",
        ),
        // By its control socket, its packet sockets, and when almost all is open.
        (
            "ulimit -n 8; uvs run --interface eth0".to_owned(),
            1,
            "raise its limit (`ulimit -n 1024`",
        ),
        (
            "ulimit -n 20; uvs run --interface eth0 --hook off".to_owned(),
            1,
            "raise its limit (`ulimit -n 1024`",
        ),
        (
            "ulimit -n 32; uvs run --interface eth0 --hook off".to_owned(),
            1,
            "raise its limit (`ulimit -n 1024`",
        ),
        (
            format!("{NOT_ROOT} uvs run --interface eth0"),
            1,
            "CAP_NET_RAW (packet sockets) and CAP_NET_ADMIN",
        ),
        (
            format!("{NO_RAW} uvs run --interface eth0"),
            1,
            "lacks CAP_NET_RAW (packet sockets); run it as root",
        ),
    ];
    for (command, code, said) in table {
        let refused = run(&lab, &shell, &command);
        assert_eq!(refused.code, Some(code), "{command}: {refused:?}");
        assert!(refused.stderr.contains(said), "{command}: {refused:?}");
        assert_eq!(
            run(&lab, &shell, "nft list ruleset").stdout,
            "",
            "{command}"
        );
        let socket = run(&lab, &shell, "ls $UVS_SOCKET*");
        assert_ne!(socket.code, Some(0), "{command}: {socket:?}");
        let left = lab.director.processes().expect("listed");
        assert_eq!(left, Vec::<u32>::new(), "{command}");
    }
}

#[test]
fn a_second_daemon_is_refused_and_the_first_serves_on() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let pid = daemon.id();
    let rules = run(&lab, &shell, "nft list ruleset").stdout;
    let same = run(&lab, &shell, "uvs run --interface eth0");
    assert_eq!(same.code, Some(1), "{same:?}");
    let said = format!("the daemon with pid {pid} serves this socket already");
    assert!(same.stderr.contains(&said), "{same:?}");
    let other = "UVS_SOCKET=$UVS_SOCKET.other uvs run --interface eth0";
    let other = run(&lab, &shell, other);
    assert_eq!(other.code, Some(1), "{other:?}");
    let said = format!("another uvs (process {pid}) already runs in this network namespace");
    assert!(other.stderr.contains(&said), "{other:?}");
    assert_ne!(run(&lab, &shell, "ls $UVS_SOCKET.other*").code, Some(0));
    assert_eq!(run(&lab, &shell, "nft list ruleset").stdout, rules);
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

#[test]
fn without_a_daemon_commands_say_where_they_looked() {
    let lab = Lab::build(Mode::Dr, Options::default()).expect("the lab is built");
    let shell = uvs_lab::shell::Shell::new(&lab, crate::stand::uvs()).expect("the symlinks");
    for (command, code) in [("uvs show info", 3), ("uvs reload", 3), ("ipvsadm -ln", 2)] {
        let absent = run(&lab, &shell, command);
        assert_eq!(absent.code, Some(code), "{command}: {absent:?}");
        assert!(
            absent
                .stderr
                .contains("control.sock: no daemon answers here"),
            "{command}: {absent:?}"
        );
    }
}
