//! What is accepted and what it becomes; and, one row each, what is refused and what is said.

use std::net::IpAddr;
use std::path::Path;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::scheduler::FLAG_2;
use uvs_core::service::{
    ClientAddress, ConnectionLog, Forwarding, Introduction, NewConnections, OnExpiry, OnRemoval,
    Persistence, ServiceKey, TeardownPolicy, Timestamps, TunnelChecksum, TunnelKind,
};

use super::*;
use crate::protocol::{HookMode, SyncRole};

fn check(text: &str) -> Result<Config, ConfigError> {
    parse("uvs.toml", text, &|settings| {
        Schedulers::configured(settings, None)
    })
}

fn endpoint(addr: &str, port: u16) -> Endpoint {
    Endpoint::new(addr.parse::<IpAddr>().unwrap().into(), port)
}

#[test]
fn the_hook_is_what_the_file_says() {
    let hook =
        check("[hook]\nmode = \"guard\"\nconnections = 1000\nheartbeat = 3\npins = \"/bpf/uvs\"")
            .unwrap()
            .hook;
    assert_eq!(hook.mode, Some(HookMode::Guard));
    let numbers = (hook.connections, hook.heartbeat);
    assert_eq!((numbers, hook.pins), ((1000, 3), "/bpf/uvs".into()));
    assert_eq!(check("").unwrap().hook, Hook::default());
}

#[test]
fn what_a_daemon_gives_up_is_read_before_all_else() {
    let text = "[confinement]\ncapabilities = \"keep\"\nseccomp = \"log\"\n[hook]\nmode = \"off\"";
    let confining = Confining {
        keeps_capabilities: true,
        seccomp: Some(Seccomp::Log),
    };
    assert_eq!(check(text).unwrap().confinement, confining);
    let early = early(&format!("interfaces = 7\n{text}"));
    let mode = Some(HookMode::Off);
    assert_eq!((early.confinement, early.hook.mode), (confining, mode));
    assert_eq!(super::early("nonsense"), Early::default());
    assert_eq!(Confinement::default().seccomp, Seccomp::On);
}

#[test]
fn an_empty_file_is_an_empty_director() {
    assert_eq!(check("").unwrap(), Config::default());
    assert_eq!(check("# nothing yet\n").unwrap(), Config::default());
}

/// A file that sets every key.
const EVERY_KEY: &str = r#"
interfaces = ["eth0", "eth1"]
socket = "/run/uvs/a.sock"
[limits]
connections = 4096
local_ports = "10000-32767"
fragment_bytes = 65536
[timeouts]
tcp = 60
tcp_fin = 30
udp = 10
[sysctl]
expire_nodest_conn = 1
[plugins]
directory = "/opt/uvs"
max_faults = 100
scheduler_budget = 2500
[[service]]
tcp = "192.168.0.38:80"
scheduler = "sh"
flags = ["sh-port"]
persistent = { timeout = 300, netmask = "255.255.255.0" }
on_removal = "tell"
on_expiry = "tell"
drain_timeout = 60
[[service.server]]
address = "192.168.0.18"
weight = 3
upper_threshold = 100
lower_threshold = 50
[[service.server]]
address = "192.168.0.28"
mode = "ipip"
tunnel = { kind = "gue", port = 6080, checksum = "remote" }
"#;

#[test]
fn every_key_reaches_its_field() {
    let config = check(EVERY_KEY).unwrap();
    assert_eq!(config.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.socket.as_deref(), Some(Path::new("/run/uvs/a.sock")));
    assert_eq!(config.limits.connections, 4096);
    assert_eq!(config.limits.local_ports, (10000, 32767));
    assert_eq!(config.limits.fragment_bytes, 65536);
    assert_eq!(
        (
            config.timeouts.tcp,
            config.timeouts.tcp_fin,
            config.timeouts.udp
        ),
        (60, 30, 10)
    );
    assert_eq!(config.sysctls.expire_nodest_conn, 1);
    assert_eq!(
        config.plugins.directory.as_deref(),
        Some(Path::new("/opt/uvs"))
    );
    assert_eq!(config.plugins.max_faults, Some(100));
    assert_eq!(config.plugins.scheduler_budget, Some(2500));
    let [service] = &config.services[..] else {
        panic!("one service")
    };
    assert_eq!(
        service.key,
        ServiceKey::address(Protocol::Tcp, endpoint("192.168.0.38", 80))
    );
    assert_eq!((service.scheduler.as_str(), service.flags), ("sh", FLAG_2));
    assert_eq!(
        service.persistence,
        Some(Persistence {
            timeout: 300,
            mask: 0xffff_ff00
        })
    );
    let teardown = TeardownPolicy {
        on_removal: OnRemoval::Tell,
        on_expiry: OnExpiry::Tell,
        drain_timeout: 60,
    };
    assert_eq!(service.teardown, teardown);
    let [newest, oldest] = &service.servers[..] else {
        panic!("two servers")
    };
    assert_eq!(oldest.endpoint, endpoint("192.168.0.18", 80));
    assert_eq!((oldest.weight, oldest.upper, oldest.lower), (3, 100, 50));
    assert_eq!(newest.endpoint, endpoint("192.168.0.28", 80));
    assert_eq!((newest.forwarding, newest.weight), (Forwarding::Tunnel, 1));
    assert_eq!(
        (newest.tunnel.kind, newest.tunnel.port),
        (TunnelKind::Gue, 6080)
    );
    assert_eq!(newest.tunnel.checksum, TunnelChecksum::Remote);
}

#[test]
fn what_is_not_said_is_as_ipvsadm_has_it() {
    let service =
        &check("[[service]]\nudp = \"10.0.0.1:53\"\n[[service.server]]\naddress = \"10.0.0.2\"")
            .unwrap()
            .services[0];
    assert_eq!(
        (service.scheduler.as_str(), service.persistence),
        ("wlc", None)
    );
    assert_eq!(service.servers[0].forwarding, Forwarding::Dr);
    assert_eq!(service.servers[0].weight, 1);
}

#[test]
fn persistence_is_a_number_or_a_table_of_either_family() {
    let mask = |service: &str| {
        let text = format!("[[service]]\n{service}");
        check(&text).unwrap().services[0].persistence.unwrap()
    };
    let four = |s| mask(&format!("tcp = \"10.0.0.1:0\"\npersistent = {s}"));
    let six = |s| mask(&format!("tcp = \"[2001:db8::1]:80\"\npersistent = {s}"));
    assert_eq!(
        four("300"),
        Persistence {
            timeout: 300,
            mask: u32::MAX
        }
    );
    assert_eq!(
        six("300"),
        Persistence {
            timeout: 300,
            mask: 128
        }
    );
    assert_eq!(
        six("{ netmask = 64 }"),
        Persistence {
            timeout: 360,
            mask: 64
        }
    );
}

#[test]
fn persistence_may_be_by_calls() {
    let engine = |service: &str| {
        let text = format!("[[service]]\n{service}");
        check(&text).unwrap().services[0].engine.clone()
    };
    let sip = "persistent = { timeout = 3600, engine = \"sip\" }";
    assert_eq!(
        engine(&format!("udp = \"10.0.0.1:5060\"\n{sip}")).as_deref(),
        Some("sip")
    );
    let marked = "fwmark = 1\nmatch = [\"udp 10.0.0.1:5060\"]";
    assert_eq!(engine(&format!("{marked}\n{sip}")).as_deref(), Some("sip"));
    assert_eq!(
        engine("udp = \"10.0.0.1:5060\"\npersistent = { timeout = 60 }"),
        None
    );
    assert_eq!(engine("udp = \"10.0.0.1:5060\"\npersistent = 60"), None);
}

#[test]
fn a_service_may_size_its_table_or_start_its_servers_slowly() {
    for size in [251, 4093, 65_537, 655_373] {
        let text =
            format!("[[service]]\ntcp = \"10.0.0.1:80\"\nscheduler = \"mh\"\ntable_size = {size}");
        assert_eq!(check(&text).unwrap().services[0].table_size, size);
    }
    let plain = check("[[service]]\ntcp = \"10.0.0.1:80\"\nslow_start = 30").unwrap();
    assert_eq!(plain.services[0].slow_start, 30);
    assert_eq!(plain.services[0].table_size, 0);
}

#[test]
fn fullnat_maps_ports_from_its_local_addresses() {
    let service = &check(
        "[[service]]\ntcp = \"192.168.0.38:80\"\nmode = \"fullnat\"\nlocal_addresses = [\"192.168.0.8\"]\n\
         [[service.server]]\naddress = \"192.168.0.18:8080\"",
    )
    .unwrap()
    .services[0];
    assert_eq!(service.local, [Addr::v4([192, 168, 0, 8])]);
    assert_eq!(service.servers[0].endpoint, endpoint("192.168.0.18", 8080));
}

#[test]
fn a_service_introduces_its_clients() {
    let read = |lines: &str| {
        let text = format!("[[service]]\ntcp = \"10.0.0.1:80\"\nmode = \"nat\"\n{lines}");
        Introduction::clone(&check(&text).unwrap().services[0].introduction)
    };
    assert_eq!(read(""), Introduction::default());
    assert_eq!(
        read(
            "client_address = \"proxy-v2\"\nproxy_authority = \"a.example\"\ntimestamps = \"offset\""
        ),
        Introduction {
            client_address: ClientAddress::ProxyV2,
            authority: "a.example".to_owned(),
            timestamps: Timestamps::Offset,
            ..Introduction::default()
        }
    );
    let toa = read("client_address = \"toa\"\ntoa_kind = 200");
    assert_eq!(
        (toa.client_address, toa.toa_kind),
        (ClientAddress::Toa, 200)
    );
}

#[test]
fn a_service_of_a_mark_says_what_it_matches() {
    let config = check(
        r#"
        [[service]]
        fwmark = 1
        match = ["tcp 10.0.0.1:80", "any 10.0.1.0/24:5000-5100"]
        persistent = 300
        one_packet = true
        mode = "nat"
        [[service.server]]
        address = "192.168.0.18"
        [[service.server]]
        address = "192.168.0.28:8080"
        "#,
    )
    .unwrap();
    let service = &config.services[0];
    let key = ServiceKey::Mark {
        mark: 1,
        ipv6: false,
    };
    assert_eq!((service.key, service.one_packet), (key, true));
    let servers: Vec<Endpoint> = service.servers.iter().map(|s| s.endpoint).collect();
    let expected = [endpoint("192.168.0.28", 8080), endpoint("192.168.0.18", 0)];
    assert_eq!(servers, expected);
    let rules = config.marks.iter().map(|r| (r.mark, r.to.to_string()));
    let expected = ["tcp 10.0.0.1:80", "any 10.0.1.0/24:5000-5100"].map(|to| (1, to.to_owned()));
    assert_eq!(rules.collect::<Vec<_>>(), expected);
}

#[test]
fn a_mark_has_a_service_of_each_family() {
    let config = check(
        r#"
        [[service]]
        fwmark = 5
        match = ["tcp 10.0.0.1:80"]
        mode = "nat"
        [[service.server]]
        address = "192.168.0.18"
        [[service]]
        fwmark = 5
        match = ["tcp [2001:db8::1]:80", "any 2001:db8:1::/64"]
        persistent = { timeout = 60, netmask = 64 }
        [[service.server]]
        address = "2001:db8:2::11"
        "#,
    )
    .unwrap();
    let keys: Vec<String> = config.services.iter().map(|s| s.key.to_string()).collect();
    assert_eq!(keys, ["FWM 5", "FWM 5 IPv6"]);
    let persistence = config.services[1].persistence.unwrap();
    assert_eq!((persistence.timeout, persistence.mask), (60, 64));
    let mixed = "[[service]]\nfwmark = 5\nmatch = [\"tcp 10.0.0.1:80\", \"tcp [2001:db8::1]:80\"]";
    let refused = check(mixed).unwrap_err().to_string();
    assert!(
        refused.contains("write a service for each family"),
        "{refused}"
    );
}

#[test]
fn what_is_owned_is_all_none_or_some() {
    let own = |text: &str| check(text).unwrap().own_vips;
    let some = ["10.0.0.1", "10.0.0.9"]
        .map(|a| endpoint(a, 0).addr)
        .to_vec();
    assert_eq!(own("own_vips = \"all\""), OwnVips::All);
    assert_eq!(own("own_vips = \"none\""), OwnVips::None);
    assert_eq!(own(""), OwnVips::None);
    assert_eq!(own("own_vips = []").to_string(), "none");
    let listed = "own_vips = [\"10.0.0.1\", \"10.0.0.9\"]";
    assert_eq!(own(listed), OwnVips::Some(some));
    assert_eq!(own(listed).to_string(), "10.0.0.1,10.0.0.9");
    // As they are repeated on the command line.
    let typed = |words: &[&str]| {
        let all = words.iter().map(|word| word.parse::<OwnVips>().unwrap());
        all.reduce(OwnVips::and).unwrap().to_string()
    };
    assert_eq!(typed(&["10.0.0.1", "10.0.0.9"]), "10.0.0.1,10.0.0.9");
    assert_eq!(typed(&["10.0.0.1", "all"]), "all");
    assert_eq!(typed(&["10.0.0.1", "2001:db8::1"]), "10.0.0.1,2001:db8::1");
    for wrong in ["", "none", "10.0.0.1:80", "[2001:db8::1]:80", "224.0.0.1"] {
        assert!(wrong.parse::<OwnVips>().is_err(), "{wrong}");
    }
}

#[test]
fn sync_daemons_speak_to_a_group_or_one_by_one() {
    let sync = |text: &str| check(text).map(|config| config.sync);
    let group = sync("[sync.master]\ninterface = \"eth1\"\ngroup = \"224.0.0.82\"").unwrap();
    assert_eq!((group.len(), group[0].role), (1, SyncRole::Master));
    assert_eq!(group[0].group, Some("224.0.0.82".parse().unwrap()));
    assert!(group[0].peers.is_empty() && group[0].key_file.is_none());
    let daemon = "[sync.backup]\ninterface = \"eth1\"\n";
    let one_by_one =
        format!("{daemon}peers = [\"10.8.0.4\", \"10.8.0.5\"]\nkey_file = \"/etc/uvs/sync.key\"");
    let one_by_one = sync(&one_by_one).unwrap();
    let peers: [IpAddr; 2] = ["10.8.0.4", "10.8.0.5"].map(|a| a.parse().unwrap());
    assert_eq!(one_by_one[0].peers, peers);
    let key = one_by_one[0].key_file.as_deref();
    assert_eq!(key, Some(Path::new("/etc/uvs/sync.key")));
    assert_eq!(one_by_one[0].on(1500).peers, peers);
    let bulk = sync(&format!("{daemon}key_file = \"/k\"\nbulk = true")).unwrap();
    assert!(bulk[0].on(1500).bulk && !one_by_one[0].on(1500).bulk);
    for (wrong, said) in [
        (
            "peers = []",
            ":3:9: sync.backup.peers: 0 addresses; name the other directors, 1 to 16",
        ),
        (
            "peers = [\"224.0.0.81\"]",
            "224.0.0.81 is not one host's address",
        ),
        (
            "peers = [\"10.8.0.4\", \"fd00::4\"]",
            "addresses of both families",
        ),
        (
            "group = \"224.0.0.82\"\npeers = [\"10.8.0.4\"]",
            "there is a group, too; remove group, or peers",
        ),
        (
            "bulk = true",
            ":3:8: sync.backup.bulk: there is no key; name the file that all directors have a copy of",
        ),
        (
            "key_file = \"sync.key\"",
            "\"sync.key\" is not an absolute path",
        ),
    ] {
        let refused = sync(&format!("{daemon}{wrong}")).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}

#[test]
fn where_connections_are_logged_and_which_services_are() {
    let services = "[[service]]\ntcp = \"192.0.2.1:80\"\nconnection_log = true\n[[service]]\ntcp = \"192.0.2.1:81\"\n\
                    connection_log = false\n[[service]]\ntcp = \"192.0.2.1:82\"";
    for (written, to) in [
        ("/var/log/c.log", LogTo::File("/var/log/c.log".into())),
        ("journald", LogTo::Journald),
        ("unix:/run/c.sock", LogTo::Unix("/run/c.sock".into())),
    ] {
        let table = format!("[connection_log]\nto = \"{written}\"\n");
        let config = check(&format!("{table}{services}")).unwrap();
        assert_eq!(to.to_string(), written);
        let logging = ConnectionLogging {
            to,
            starts: false,
            queue: 8192,
        };
        assert_eq!(config.connection_log, Some(logging));
        let of = |config: &Config| -> Vec<_> {
            config.services.iter().map(|s| s.connection_log).collect()
        };
        let off = ConnectionLog::Off;
        assert_eq!(of(&config), [ConnectionLog::Ends, off, off]);
        let more = check(&format!("{table}starts = true\nqueue = 64\n{services}")).unwrap();
        assert_eq!(of(&more), [ConnectionLog::StartsAndEnds, off, off]);
        assert_eq!(more.connection_log.unwrap().queue, 64);
    }
}

#[test]
fn who_may_come_in_and_how_fast() {
    let config = check(
        r#"
        deny = ["10.0.0.0/8", "2001:db8::/32"]
        allow = ["10.1.0.0/16"]
        deny_file = "/etc/uvs/deny.txt"
        host_firewall = "ignore"
        [[service]]
        tcp = "192.0.2.1:80"
        deny = ["all"]
        allow_file = "/etc/uvs/office.txt"
        new_connections_per_second = 1000
        new_connections_burst = 5000
        new_connections_per_client = 10
        new_connections_per_client_burst = 30
        client_prefix = 24
        [[service]]
        tcp = "192.0.2.1:443"
        "#,
    )
    .unwrap();
    let key = config.services[0].key;
    let scopes: Vec<_> = config.access.keys().copied().collect();
    assert_eq!(scopes, [None, Some(key)], "no list where nothing is said");
    let rules = |scope| {
        let list: &crate::access::Configured = &config.access[&scope];
        let rules = list
            .rules
            .iter()
            .map(|r| format!("{:?} {}", r.action, r.prefix));
        let files = list
            .files
            .iter()
            .map(|(action, path)| format!("{action:?} {}", path.display()));
        rules.chain(files).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        rules(None),
        "Deny 10.0.0.0/8, Deny 2001:db8::/32, Allow 10.1.0.0/16, Deny /etc/uvs/deny.txt"
    );
    assert_eq!(
        rules(Some(key)),
        "Deny 0.0.0.0/0, Deny ::/0, Allow /etc/uvs/office.txt"
    );
    assert_eq!(config.host_firewall, HostFirewall::Ignore);
    let limits = NewConnections {
        per_second: 1000,
        burst: 5000,
        per_client: 10,
        per_client_burst: 30,
        client_prefix: 24,
    };
    assert_eq!(config.services[0].new_connections, limits);
    assert_eq!(
        config.services[1].new_connections,
        NewConnections::default()
    );
}

/// A service's lines, as line 2 onwards; each row's text follows at line 3 (`S`) or 5 (`R`).
const S: &str = "[[service]]\ntcp = \"10.0.0.1:80\"\n";
const R: &str = "[[service]]\ntcp = \"10.0.0.1:80\"\n[[service.server]]\naddress = \"10.0.0.2\"\n";

const F: &str = "[[service]]\nfwmark = 1\nmatch = [\"tcp 10.0.0.1:80\"]\n";

/// Start of the file, what is wrong after it, and what is said about it.
#[rustfmt::skip] // one row, one mistake
const REFUSED: &[(&str, &str, &str)] = &[
    ("", "interfaces = [", ":1:15: not TOML: unclosed array"),
    ("", "interface = [\"eth0\"]", ":1:1: interface: unknown key; did you mean \"interfaces\"?"),
    ("", "[limits]\nconection = 1", ":2:1: limits.conection: unknown key; did you mean \"connections\"?"),
    ("", "interfaces = \"eth0\"", ":1:14: interfaces: is a string; use an array: [ … ]"),
    ("", "interfaces = [\"eth0\", 7]", ":1:23: interfaces: is an integer; use a string"),
    ("", "interfaces = [\"a/b\"]", ":1:15: interfaces: \"a/b\" cannot be an interface"),
    ("", "[sync.master]\ninterface = \"a/b\"", ":2:13: sync.master.interface: \"a/b\" cannot be an interface"),
    ("", "interfaces = [\"..\"]", ":1:15: interfaces: \"..\" cannot be an interface"),
    ("", "interfaces = [\"eth0:1\"]", ":1:15: interfaces: \"eth0:1\" cannot be an interface"),
    ("", "interfaces = [\"e\", \"e\"]", ":1:20: interfaces: e twice; name each interface once (first at line 1)"),
    ("", "own_vips = \"some\"", ":1:12: own_vips: unknown value \"some\"; use \"all\", \"none\", or a list of addresses: [\"192.168.0.38\"]"),
    ("", "own_vips = true", ":1:12: own_vips: is neither a word nor a list; use \"all\", \"none\", or a list of addresses"),
    ("", "own_vips = [10]", ":1:13: own_vips: is an integer; use a string"),
    ("", "own_vips = [\"all\"]", ":1:13: own_vips: \"all\" is not an IP address"),
    ("", "own_vips = [\"10.0.0.1:80\"]", ":1:13: own_vips: \"10.0.0.1:80\" is not an IP address"),
    ("", "own_vips = [\"10.0.0.1\", \"255.255.255.255\"]", ":1:25: own_vips: 255.255.255.255 is not one host's address"),
    ("", "own_vips = [\"10.0.0.1\", \"10.0.0.1\"]", ":1:25: own_vips: 10.0.0.1 twice; name each address once (first at line 1)"),
    ("", "own_vips = [\"ff02::1\"]", ":1:13: own_vips: ff02::1 is not one host's address"),
    ("", "own_vip = \"all\"", ":1:1: own_vip: unknown key; did you mean \"own_vips\"?"),
    ("", "socket = \"uvs.sock\"", ":1:10: socket: \"uvs.sock\" cannot be the control socket; use an absolute"),
    ("", "workers = 0", ":1:11: workers: 0 is no number of workers; use a whole number from 1 to 64, or auto"),
    ("", "workers = \"all\"", "all is no number of workers"),
    ("", "worker_cpus = [-1]", "worker_cpus"),
    ("", "busy_poll = 2000000", ":1:13: busy_poll: 2000000 is out of range; use a whole number from 0 to 1000000"),
    ("", "[limits]\nconnections = 0", ":2:15: limits.connections: 0 is out of range; use a whole number from 1 to 16777216"),
    ("", "[limits]\nlocal_ports = \"9-1\"", ":2:15: limits.local_ports: \"9-1\" is not a range of ports"),
    ("", "[limits]\nlocal_ports = \"0-10\"", "\"0-10\" is not a range of ports"),
    ("", "[limits]\nlocal_ports = \"1-70000\"", "\"1-70000\" is not a range of ports"),
    ("", "[limits]\nlocal_ports = 1024", ":2:15: limits.local_ports: is an integer; use a string"),
    ("", "[timeouts]\nudp = 0", ":2:7: timeouts.udp: 0 is out of range; use a whole number from 1"),
    ("", "[sysctl]\nexpire_nodest = 1", ":2:1: sysctl.expire_nodest: unknown key; did you mean \"expire_nodest_conn\"?"),
    ("", "[sysctl]\ndrop_entry = 9", ":2:14: sysctl.drop_entry: 9 is out of range; use a whole number from 0 to 3"),
    ("", "[plugins]\ndirectory = \"here\"", ":2:13: plugins.directory: \"here\" cannot be the plugin directory; use an absolute path"),
    ("", "[plugins]\nscheduler_budget = \"1ms\"", ":2:20: plugins.scheduler_budget: is a string; use a whole number from 0 to 1000000"),
    ("", "[plugins]\nscheduler_budget = 2000000", ":2:20: plugins.scheduler_budget: 2000000 is out of range; use a whole number from 0 to 1000000"),
    ("", "[plugins]\nmax_faults = -1", ":2:14: plugins.max_faults: -1 is out of range; use a whole number from 0 to 4294967295"),
    ("", "[plugins]\ndirectry = \"/x\"", ":2:1: plugins.directry: unknown key; did you mean \"directory\"?"),
    ("", "[plugins]\ndirectory = \"/nowhere\"\nload = [7]", ":3:9: plugins.load: is an integer; use a string"),
    ("", "[plugins]\ndirectory = \"/nowhere\"\nload = [\"a.so\"]", ":3:9: plugins.load: /nowhere: No such file or directory (os error 2); try it: uvs plugin check FILE"),
    ("", "[service]\ntcp = \"10.0.0.1:80\"", ":1:1: service: is a table; use double brackets: [[service]]"),
    ("", "[[service]]\nscheduler = \"rr\"", ":1:1: service: has no address; add: tcp = \"VIP:PORT\""),
    ("", "[[service]]\ntcp = \"10.0.0.1\"", ":2:7: service.tcp: has no port; write \"10.0.0.1:80\""),
    ("", "[[service]]\ntcp = \"2001:db8::1\"", "has no port; write \"[2001:db8::1]:80\""),
    ("", "[[service]]\ntcp = \"10.0.0.1:0\"", ":2:7: service.tcp: port 0 (every port) needs persistence"),
    ("", "[[service]]\ntcp = \"10.0.0.1:70000\"", ":2:7: service.tcp: port \"70000\" is out of range"),
    ("", "[[service]]\ntcp = \"10.0.0.1:http\"", "port \"http\" is not a number; use a port from 1 to 65535"),
    ("", "[[service]]\ntcp = \"www:80\"", "\"www\" is not an IP address; write an address"),
    ("", "[[service]]\ntcp = \"[10.0.0.1:80\"", "is not an IP address"),
    ("", "[[service]]\ntcp = \"0.0.0.0:80\"", "0.0.0.0 is not one host's address"),
    ("", "[[service]]\ntcp = \"224.0.0.1:80\"", "224.0.0.1 is not one host's address"),
    ("", "deny = \"10.0.0.0/8\"", ":1:8: deny: is a string; use an array"),
    ("", "deny = [\"10.0.0.1/8\"]", ":1:9: deny: 10.0.0.1/8 has bits behind its length; write 10.0.0.0/8 for all of it, or 10.0.0.1 for the one address"),
    ("", "deny = [\"www\"]", ":1:9: deny: \"www\" is not an address or a prefix; write ADDRESS"),
    ("", "deny = [\"10.0.0.0/8\", \"10.0.0.0/8\"]", ":1:23: deny: 10.0.0.0/8 twice; write each prefix once"),
    ("", "deny = [\"10.0.0.1\"]\nallow = [\"10.0.0.1/32\"]", ":2:10: allow: 10.0.0.1 twice; write each prefix once; what is denied and allowed is denied (first at line 1)"),
    ("", "allow = [\"10.0.0.0/8\"]", ":1:9: allow: allows nothing that is not allowed without it; add deny = [\"all\"]"),
    ("", "deny_file = \"deny.txt\"", ":1:13: deny_file: \"deny.txt\" is not an absolute path"),
    ("", "host_firewall = \"on\"", ":1:17: host_firewall: unknown value \"on\"; known: follow, ignore"),
    ("", "[hook]\nmode = \"on\"", ":2:8: hook.mode: unknown value \"on\"; known: auto, tier, guard, off"),
    ("", "[hook]\nconnections = 0", ":2:15: hook.connections: 0 is out of range; use a whole number from 1 to 4194304"),
    ("", "[hook]\nheartbeat = 1", ":2:13: hook.heartbeat: 1 is out of range; use a whole number from 2 to 3600"),
    ("", "[confinement]\nseccomp = \"kill\"", ":2:11: confinement.seccomp: unknown value \"kill\"; known: on, log, off"),
    ("", "[confinement]\ncapabilities = true", ":2:16: confinement.capabilities: is a boolean; use a string"),
    ("", "[hook]\npins = \"bpf\"", ":2:8: hook.pins: \"bpf\" is not an absolute path; name a directory in a bpffs"),
    (S, "deny = [\"10.0.0.0/40\"]", ":3:9: service.deny: \"10.0.0.0/40\" has no prefix length; use a length from 0 to 32"),
    (S, "allow_file = \"/etc/uvs/a\"", ":3:14: service.allow_file: allows nothing that is not allowed without it"),
    ("", "[connection_log]\nstarts = true", ":1:1: connection_log: says not where to; add: to = …; name a file by its absolute path"),
    ("", "[connection_log]\nto = \"connections.log\"", ":2:6: connection_log.to: \"connections.log\" is no place for a log; name a file by its absolute path, \"journald\""),
    ("", "[connection_log]\nto = \"unix:collector\"", "\"unix:collector\" is no place for a log"),
    ("", "[connection_log]\nto = \"journald\"\nqueue = 1", ":3:9: connection_log.queue: 1 is out of range; use a whole number from 64 to 1048576"),
    (S, "connection_log = true", ":3:18: service.connection_log: there is nowhere to log to; add at the top: [connection_log] with to = "),
    (S, "host_firewall = \"follow\"", ":3:1: service.host_firewall: unknown key"),
    (S, "new_connections_per_second = -1", ":3:30: service.new_connections_per_second: -1 is out of range; use a whole number from 0 to 10000000"),
    (S, "new_connections_burst = 5", ":3:25: service.new_connections_burst: has no effect; add new_connections_per_second = NUMBER"),
    (S, "client_address = \"proxy\"", ":3:18: service.client_address: unknown value \"proxy\"; did you mean"),
    (S, "client_address = \"toa\"\n[[service.server]]\naddress = \"10.0.0.2\"", ":3:18: service.client_address: the server 10.0.0.2:80 answers its clients past the director, which has to change both directions; remove it, or set mode = \"nat\" or \"fullnat\""),
    (S, "timestamps = \"strip\"\n[[service.server]]\naddress = \"10.0.0.2\"", ":3:14: service.timestamps: the server 10.0.0.2:80 answers its clients past the director"),
    (S, "proxy_authority = \"a.example\"", ":3:19: service.proxy_authority: only version 2 of the PROXY protocol says an authority; remove it, or set client_address = \"proxy-v2\""),
    (S, "client_address = \"proxy-v2\"\nproxy_authority = \"a b\"", ":4:19: service.proxy_authority: the authority has blanks"),
    (S, "client_address = \"proxy-v2\"\ntoa_kind = 253", ":4:12: service.toa_kind: only TOA is an option; remove it, or set client_address = \"toa\""),
    (S, "client_address = \"toa\"\ntoa_kind = 8", ":4:12: service.toa_kind: the kind is one of TCP's own options; use a number from 70 to 254"),
    (S, "toa_kind = 300", ":3:12: service.toa_kind: 300 is out of range; use a whole number from 0 to 255"),
    ("", "[[service]]\nudp = \"10.0.0.1:80\"\nclient_address = \"proxy-v1\"", ":3:18: service.client_address: a UDP service can only have version 2 of the PROXY protocol; use \"proxy-v2\""),
    ("", "[[service]]\nudp = \"10.0.0.1:80\"\ntimestamps = \"strip\"", ":3:14: service.timestamps: only TCP has timestamps"),
    (S, "new_connections_per_client_burst = 5", "has no effect; add new_connections_per_client = NUMBER"),
    (S, "client_prefix = 24", ":3:17: service.client_prefix: has no effect; add new_connections_per_client = NUMBER"),
    (S, "new_connections_per_client = 1\nclient_prefix = 33", ":4:17: service.client_prefix: 33 is out of range; use a whole number from 1 to 32"),
    (S, "udp = \"10.0.0.1:80\"", ":3:7: service.udp: a second address; write one [[service]]"),
    (S, "shceduler = \"rr\"", ":3:1: service.shceduler: unknown key; did you mean \"scheduler\"?"),
    (S, "scheduler = \"wwr\"", ":3:13: service.scheduler: unknown scheduler \"wwr\"; did you mean \"wrr\"? schedulers: rr, wrr, lc, wlc, sed, nq, fo, ovf, twos, sh, dh, mh, lblc, lblcr, swrr, p2c, lrt"),
    (S, "scheduler = \"wrr\"\nflags = [\"sh-port\"]", ":4:10: service.flags: is not a flag of scheduler \"wrr\"; it belongs to scheduler = \"sh\""),
    (S, "scheduler = \"mh\"\ntable_size = 65536", ":4:14: service.table_size: table size 65536 is not a prime from 251 to 16777216; the next prime is 65537; take 4093, 65537 or 655373, about 100 times the number of servers"),
    (S, "scheduler = \"mh\"\ntable_size = 7", ":4:14: service.table_size: table size 7 is not a prime from 251 to 16777216; the next prime is 251;"),
    (S, "scheduler = \"sh\"\ntable_size = 4093", ":4:14: service.table_size: scheduler \"sh\" has no table of settable size; it belongs to scheduler = \"mh\""),
    (S, "table_size = 0", ":3:14: service.table_size: 0 is out of range"),
    (S, "slow_start = 86401", ":3:14: service.slow_start: 86401 is out of range; use a whole number from 0 to 86400"),
    (S, "slow_start = \"30s\"", ":3:14: service.slow_start: is a string; use a whole number"),
    (S, "scheduler = \"mh\"\nslow_start = 30", ":4:14: service.slow_start: scheduler \"mh\" keeps each client on one server; a slow start would move clients away and back: remove it"),
    (S, "flags = [\"port\"]", ":3:10: service.flags: unknown value \"port\"; did you mean \"sh-port\"? known: sh-fallback"),
    (S, "mode = \"tun\"", ":3:8: service.mode: unknown value \"tun\"; known: dr, nat, fullnat, ipip"),
    (S, "persistent = 0", ":3:14: service.persistent: 0 is out of range; use a whole number from 1 to 2678400"),
    (S, "persistent = true", ":3:14: service.persistent: is a boolean; use a whole number"),
    (S, "persistent = { netmask = \"255.0.0\" }", "service.persistent.netmask: \"255.0.0\" is not a netmask"),
    (S, "persistent = { engine = \"sip\" }", ":3:25: service.persistent.engine: sip looks into datagrams, of which a service of TCP has none; use it with udp, or with fwmark"),
    (S, "persistent = { engine = \"sipp\" }", ":3:25: service.persistent.engine: no persistence engine is called \"sipp\"; there is sip"),
    (S, "persistent = { mask = 1 }", ":3:16: service.persistent.mask: unknown key"),
    (S, "one_packet = true", ":3:14: service.one_packet: a TCP service cannot schedule packet by packet"),
    (S, "one_packet = 1", ":3:14: service.one_packet: is an integer; use true or false"),
    (S, "on_removal = \"reset\"", ":3:14: service.on_removal: unknown value \"reset\"; known: keep, drop, tell"),
    (S, "on_removal = \"tel\"", ":3:14: service.on_removal: unknown value \"tel\"; did you mean \"tell\"? known: keep, drop, tell"),
    (S, "on_removel = \"tell\"", ":3:1: service.on_removel: unknown key; did you mean \"on_removal\"?"),
    (S, "on_expiry = \"keep\"", ":3:13: service.on_expiry: unknown value \"keep\""),
    (S, "drain_timeout = 0", ":3:17: service.drain_timeout: 0 is out of range; use a whole number from 1 to 2678400"),
    ("", "[[service]]\nsctp = \"10.0.0.1:80\"\non_removal = \"tell\"", ":3:14: service.on_removal: the ends of sctp associations cannot be notified; use \"drop\""),
    ("", "[[service]]\nudp = \"10.0.0.1:80\"\non_expiry = \"tell\"", ":3:13: service.on_expiry: an idle UDP flow has no end to be notified of"),
    (S, "mode = \"fullnat\"", ":3:8: service.mode: mode \"fullnat\" needs local addresses; add: local_addresses"),
    (S, "mode = \"fullnat\"\nlocal_addresses = []", ":4:19: service.local_addresses: has no address"),
    (S, "mode = \"fullnat\"\nlocal_addresses = [\"2001:db8::9\"]\n[[service.server]]\naddress = \"10.0.0.2\"", ":4:19: service.local_addresses: no IPv4 address, as the server 10.0.0.2:80 needs; add an IPv4 address of this host that it answers to"),
    (S, "mode = \"fullnat\"\nlocal_addresses = [\"10.0.0.9\", \"10.0.0.9\"]", ":4:32: service.local_addresses: 10.0.0.9 twice"),
    (S, "local_addresses = [\"10.0.0.9\"]", ":3:19: service.local_addresses: no server here is of mode \"fullnat\""),
    (S, "[[service]]\ntcp = \"10.0.0.1:80\"", ":4:7: service.tcp: service TCP 10.0.0.1:80 twice; put all its servers under one [[service]] (first at line 2)"),
    ("", "[[service]]\nfwmark = 0\nmatch = [\"tcp 10.0.0.1:80\"]", ":2:10: service.fwmark: 0 is out of range; use a whole number from 1 to 4294967295"),
    ("", "[[service]]\nfwmark = 1", ":1:1: service: no packet has the firewall mark 1; add: match = [\"tcp VIP:PORT\"]"),
    ("", "[[service]]\nfwmark = 1\nmatch = []", ":3:9: service.match: no packet has the firewall mark 1"),
    ("", "[[service]]\nfwmark = 1\nmatch = \"tcp 10.0.0.1\"", ":3:9: service.match: is a string; use an array"),
    ("", "[[service]]\nfwmark = 1\nmatch = [7]", ":3:10: service.match: is an integer; use a string"),
    ("", "[[service]]\nfwmark = 1\nmatch = [\"10.0.0.1:80\"]", ":3:10: service.match: \"10.0.0.1:80\" is not a protocol and a destination; write PROTOCOL ADDRESS"),
    ("", "[[service]]\nfwmark = 1\nmatch = [\"icmp 10.0.0.1\"]", "\"icmp\" is no protocol; protocols are tcp, udp, sctp, and any for all three"),
    ("", "[[service]]\nfwmark = 1\nmatch = [\"any 10.0.0.1/8\"]", "10.0.0.1/8 has bits behind its prefix; give the network's first address"),
    (F, "udp = \"10.0.0.1:80\"", ":4:7: service.udp: a second address; a service of a firewall mark has none"),
    (F, "on_removal = \"rst\"", ":4:14: service.on_removal: unknown value \"rst\""),
    (F, "[[service]]\nfwmark = 2\nmatch = [\"tcp 10.0.0.1:80\"]", ":6:10: service.match: tcp 10.0.0.1:80 twice; a packet has one mark: write each destination once (first at line 3)"),
    (F, "[[service]]\nfwmark = 1\nmatch = [\"tcp 10.0.0.1:81\"]", ":5:10: service.fwmark: service FWM 1 twice"),
    (F, "[[service.server]]\naddress = \"::1\"", "::1 is an IPv6 address, but the service's match is an IPv4 one"),
    (S, "match = [\"tcp 10.0.0.1:80\"]", ":3:9: service.match: is only for services of a firewall mark; remove it, or write fwmark = NUMBER"),
    (S, "[service.server]\naddress = \"10.0.0.2\"", ":3:1: service.server: is a table; use double brackets: [[service.server]]"),
    (S, "[[service.server]]\nweight = 1", ":3:1: service.server: has no address"),
    (S, "[[service.server]]\naddress = \"2001:db8::2\"", ":4:11: service.server.address: 2001:db8::2 is an IPv6 address, but the service's 10.0.0.1 is an IPv4 one"),
    (S, "[[service.server]]\naddress = \"10.0.0.2:8080\"", ":4:11: service.server.address: port 8080 is not the service's port 80; modes dr and ipip do not touch the port"),
    (S, "mode = \"nat\"\n[[service.server]]\naddress = \"10.0.0.2:0\"", ":5:11: service.server.address: a server cannot have port 0"),
    (R, "[[service.server]]\naddress = \"10.0.0.2:80\"", ":6:11: service.server.address: server 10.0.0.2:80 twice in this service; name each server once and give it a weight (first at line 4)"),
    (R, "wieght = 1", ":5:1: service.server.wieght: unknown key; did you mean \"weight\"?"),
    (R, "weight = -1", ":5:10: service.server.weight: -1 is out of range; use a whole number from 0 to 2147483647"),
    (R, "weight = 2147483648", ":5:10: service.server.weight: 2147483648 is out of range"),
    (R, "weight = 99999999999999999999", ":5:10: service.server.weight: 99999999999999999999 is out of range"),
    (R, "weight = \"3\"", ":5:10: service.server.weight: is a string; use a whole number"),
    (R, "weight = 1.5", ":5:10: service.server.weight: is a float; use a whole number"),
    (R, "upper_threshold = 5\nlower_threshold = 6", ":6:19: service.server.lower_threshold: 6 is more than the upper threshold, 5"),
    (R, "mode = \"fullnat\"", ":1:1: service: mode \"fullnat\" needs local addresses"),
    (R, "tunnel = { kind = \"gre\" }", ":5:10: service.server.tunnel: is only for mode \"ipip\""),
    (R, "mode = \"ipip\"\ntunnel = { kind = \"gue\" }", ":6:10: service.server.tunnel: kind \"gue\" needs a port"),
    (R, "mode = \"ipip\"\ntunnel = { port = 9 }", ":6:19: service.server.tunnel.port: only kind \"gue\" has a port"),
    (R, "mode = \"ipip\"\ntunnel = { checksum = \"full\" }", "service.server.tunnel.checksum: this kind of tunnel has no such checksum"),
    (R, "mode = \"ipip\"\ntunnel = { kind = \"vxlan\" }", "unknown value \"vxlan\"; known: ipip, gue, gre"),
];

#[test]
fn each_mistake_is_named_with_its_place_and_its_remedy() {
    for (before, wrong, said) in REFUSED {
        let error = match check(&format!("{before}{wrong}\n")) {
            Ok(config) => panic!("accepted {wrong:?} as {config:?}"),
            Err(error) => error.to_string(),
        };
        assert!(
            error.contains(said),
            "{wrong:?} should be told\n  {said}\nbut was told\n  {error}"
        );
        assert_eq!(error.lines().count(), 1, "one mistake, one line: {error}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_files_order() {
    let error = check(
        "inter = 1\n[[service]]\ntcp = \"10.0.0.1:80\"\nscheduler = \"x\"\n\
         [[service.server]]\naddress = \"10.0.0.2\"\nweight = -1\n[[service.server]]\naddress = \"b\"\n",
    )
    .unwrap_err()
    .to_string();
    let lines: Vec<&str> = error
        .lines()
        .map(|l| l.split(':').nth(1).unwrap())
        .collect();
    assert_eq!(lines, ["1", "4", "7", "9"], "{error}");
}

#[test]
fn a_flood_of_mistakes_is_cut_and_counted() {
    let text: String = (0..500).map(|i| format!("k{i} = 1\n")).collect();
    let error = check(&text).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("uvs.toml: 500 errors (480 more not shown)"),
        "{error}"
    );
    assert!(
        error
            .report(false)
            .ends_with("uvs.toml: 500 errors (480 more not shown)\n")
    );
}
