//! Commands that cannot be carried out: ipvsadm's exit code and words, UVS's own where ipvsadm has none,
//! and the table as it was.

use uvs_lab::{Mode, Options};

use crate::stand::{lab, must_serve, run, serving};

/// Command, exit code, what is said on standard error.
const REFUSED: &[(&str, i32, &str)] = &[
    (
        "-A -t 192.168.0.38:0 -s wrr",
        2,
        "Zero port specified for non-persistent service",
    ),
    (
        "-A -t 192.168.0.38:70000 -s wrr",
        2,
        "illegal virtual server address[:port] specified",
    ),
    (
        "-A -t 192.168.0.256:80 -s wrr",
        2,
        "illegal virtual server address[:port] specified",
    ),
    (
        "-A -t 192.168.0.38:81 -s best",
        255,
        "Scheduler or persistence engine not found",
    ),
    ("-A -t 192.168.0.38:80 -s rr", 255, "Service already exists"),
    ("-E -t 192.168.0.38:81 -s rr", 255, "No such service"),
    ("-D -t 192.168.0.38:81", 255, "No such service"),
    (
        "-a -t 192.168.0.38:81 -r 192.168.0.48:80 -g",
        255,
        "Service not defined",
    ),
    (
        "-a -t 192.168.0.38:80 -r 192.168.0.18:80 -g",
        255,
        "Destination already exists",
    ),
    (
        "-d -t 192.168.0.38:80 -r 192.168.0.48:80",
        255,
        "No such destination",
    ),
    (
        "-e -t 192.168.0.38:80 -r 192.168.0.48:80 -g -w 2",
        255,
        "No such destination",
    ),
    (
        "-a -t 192.168.0.38:80 -r 192.168.0.48:80 -g -w -1",
        2,
        "illegal weight specified",
    ),
    (
        "-a -t 192.168.0.38:80 -r 192.168.0.48:80 -g -w 2147483648",
        2,
        "illegal weight specified",
    ),
    (
        "-e -t 192.168.0.38:80 -r 192.168.0.18:80 -g -w 1x",
        2,
        "illegal weight specified",
    ),
    (
        "-a -t 192.168.0.38:80 -r 192.168.0.48:70000 -m",
        2,
        "illegal real server address[:port] specified",
    ),
    (
        "-a -t 192.168.0.38:80 -r [fd00::1]:80 -m",
        2,
        "Different address family is allowed only for tunneling servers",
    ),
    (
        "-a -t 192.168.0.38:80 -r 224.0.0.1:80 -m",
        255,
        "Invalid operation.  Possibly wrong module version, address not unicast, ...",
    ),
    (
        "-a -t 192.168.0.38:80 -r 192.168.0.48:80 --fullnat",
        255,
        "TCP 192.168.0.38:80: the FULLNAT server 192.168.0.48:80 needs an IPv4 local address of the service: give it with --laddr",
    ),
    (
        "-A -t 192.168.0.38:81 -s rr --laddr 192.168.0.9",
        255,
        "TCP 192.168.0.38:81: the local address 192.168.0.9 is on none of this host's interfaces; add it first: ip addr add 192.168.0.9/32 dev INTERFACE",
    ),
    (
        "-E -t 192.168.0.38:80 -s rr --laddr 192.168.0.8,192.168.0.9",
        255,
        "TCP 192.168.0.38:80: the local address 192.168.0.9 is on none of this host's interfaces; add it first: ip addr add 192.168.0.9/32 dev INTERFACE",
    ),
];

#[test]
fn a_refused_command_says_why_and_changes_nothing() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let state = || run(&lab, &shell, "ipvsadm -Sn; nft -s list ruleset").stdout;
    let before = state();
    for &(words, code, said) in REFUSED {
        let refused = run(&lab, &shell, &format!("ipvsadm {words}"));
        assert_eq!(refused.code, Some(code), "{words}: {refused:?}");
        assert_eq!(refused.stderr, format!("{said}\n"), "{words}");
        assert_eq!(refused.stdout, "", "{words}");
        assert_eq!(state(), before, "{words}");
    }
    must_serve(&lab, &daemon);
    daemon.stop().expect("it ends well");
}

/// ipvsadm's words for an unknown scheduler name none; `uvs check` and `uvs show info` do.
#[test]
fn the_known_schedulers_are_listed_where_one_is_asked_for() {
    let (lab, shell) = lab(Mode::Dr, Options::default());
    let daemon = serving(&lab);
    let file = lab.dir().join("bad.toml");
    let text = "[[service]]\ntcp = \"192.168.0.38:81\"\nscheduler = \"wrrr\"\n";
    std::fs::write(&file, text).expect("written");
    let checked = run(&lab, &shell, &format!("uvs check {}", file.display()));
    assert_eq!(checked.code, Some(2), "{checked:?}");
    let info = run(&lab, &shell, "uvs show info").stdout;
    for name in ["rr", "wrr", "lc", "wlc", "sh", "mh"] {
        let listed = |text: &str| text.split([',', ' ', '\n']).any(|word| word == name);
        assert!(listed(&checked.stderr), "{name}: {checked:?}");
        assert!(listed(&info), "{name}: {info}");
    }
    assert!(
        checked.stderr.contains("did you mean \"wrr\"?"),
        "{checked:?}"
    );
    daemon.stop().expect("it ends well");
}
