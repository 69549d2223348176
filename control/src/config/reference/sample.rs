//! The file that a package installs as /etc/uvs/uvs.toml: every key, explained where it is first met, and commented out.
//!
//! A line that begins with `#` and no space is a setting; without that `#` in all of them the file is a valid one.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::{find, sysctls, tables};

/// Columns of a comment.
const WIDTH: usize = 100;

const HEAD: &str = "\
# /etc/uvs/uvs.toml: what `uvs run` serves. uvs.toml(5) is its manual page.
#
# Every key of UVS is here, with an example or its default, and commented out: a line that begins with # and no space
# is a setting. Before uvs.service can run it needs `interfaces` at the least; services may also come by ipvsadm or
# keepalived.
#
#   uvs check /etc/uvs/uvs.toml    names every mistake by line and key
#   systemctl reload uvs           applies a changed file as one step, or refuses it whole
";

/// A table as the file shows it: its path, and its keys' lines.
struct Block {
    path: &'static str,
    lines: &'static [(&'static str, &'static str)],
}

const fn block(path: &'static str, lines: &'static [(&'static str, &'static str)]) -> Block {
    Block { path, lines }
}

const GENERAL: &[Block] = &[
    block(
        "",
        &[
            ("interfaces", r#"["eth0", "eth1"]"#),
            ("own_vips", r#""none""#),
            ("socket", r#""/run/uvs/control.sock""#),
            ("deny", r#"["198.51.100.0/24"]"#),
            ("allow", r#"["198.51.100.7"]"#),
            ("deny_file", r#""/etc/uvs/deny.txt""#),
            ("allow_file", r#""/etc/uvs/allow.txt""#),
            ("host_firewall", r#""follow""#),
            ("workers", "1"),
            ("worker_cpus", "[0, 1]"),
            ("busy_poll", "0"),
        ],
    ),
    block(
        "metrics",
        &[
            ("address", r#""127.0.0.1:9650""#),
            ("max_backends", "5000"),
            ("compat", r#""none""#),
        ],
    ),
    block(
        "limits",
        &[
            ("connections", "1000000"),
            ("local_ports", r#""1024-32767""#),
            ("fragment_bytes", "4194304"),
        ],
    ),
    block(
        "timeouts",
        &[("tcp", "900"), ("tcp_fin", "120"), ("udp", "300")],
    ),
    block(
        "plugins",
        &[
            ("directory", r#""/usr/lib/uvs/schedulers""#),
            ("max_faults", "10"),
            ("scheduler_budget", "1000"),
            ("load", "[]"),
        ],
    ),
    block(
        "confinement",
        &[("capabilities", r#""drop""#), ("seccomp", r#""on""#)],
    ),
    block(
        "connection_log",
        &[
            ("to", r#""/var/log/uvs/connections.log""#),
            ("starts", "false"),
            ("queue", "8192"),
        ],
    ),
    block(
        "hook",
        &[
            ("mode", r#""auto""#),
            ("connections", "65536"),
            ("heartbeat", "60"),
            ("pins", r#""/sys/fs/bpf/uvs""#),
        ],
    ),
    block(
        "sync.master",
        &[
            ("interface", r#""eth1""#),
            ("syncid", "1"),
            ("maxlen", "1472"),
            ("group", r#""224.0.0.81""#),
            ("port", "8848"),
            ("ttl", "1"),
        ],
    ),
    block(
        "sync.backup",
        &[
            ("interface", r#""eth1""#),
            ("syncid", "1"),
            ("peers", r#"["192.168.0.9"]"#),
            ("key_file", r#""/etc/uvs/sync.key""#),
            ("bulk", "true"),
        ],
    ),
];

const SERVICES: &[Block] = &[
    block(
        "service",
        &[
            ("tcp", r#""192.168.0.38:80""#),
            ("scheduler", r#""wrr""#),
            ("mode", r#""nat""#),
            (
                "persistent",
                r#"{ timeout = 300, netmask = "255.255.255.0" }"#,
            ),
            ("slow_start", "30"),
            ("on_removal", r#""tell""#),
            ("on_expiry", r#""tell""#),
            ("drain_timeout", "3600"),
            ("deny", r#"["203.0.113.0/24"]"#),
            ("allow", r#"["203.0.113.7"]"#),
            ("deny_file", r#""/etc/uvs/deny.txt""#),
            ("allow_file", r#""/etc/uvs/allow.txt""#),
            ("new_connections_per_second", "5000"),
            ("new_connections_burst", "10000"),
            ("new_connections_per_client", "20"),
            ("new_connections_per_client_burst", "40"),
            ("client_prefix", "32"),
            ("connection_log", "true"),
            ("client_address", r#""proxy-v2""#),
            ("proxy_authority", r#""shop.example""#),
            ("timestamps", r#""keep""#),
        ],
    ),
    block(
        "service.server",
        &[
            ("address", r#""192.168.0.18:8080""#),
            ("weight", "3"),
            ("upper_threshold", "1000"),
            ("lower_threshold", "750"),
        ],
    ),
    block(
        "service.server",
        &[("address", r#""192.168.0.28""#), ("weight", "0")],
    ),
    block(
        "service",
        &[
            ("udp", r#""192.168.0.38:53""#),
            ("scheduler", r#""mh""#),
            ("flags", r#"["mh-port"]"#),
            ("table_size", "4093"),
            ("one_packet", "true"),
            ("mode", r#""ipip""#),
        ],
    ),
    block(
        "service.server",
        &[
            ("address", r#""192.168.0.18""#),
            (
                "tunnel",
                r#"{ kind = "gue", port = 6080, checksum = "remote" }"#,
            ),
        ],
    ),
    block("service", &[("sctp", r#""192.168.0.38:5060""#)]),
    block(
        "service.server",
        &[("address", r#""192.168.0.18""#), ("mode", r#""nat""#)],
    ),
    block(
        "service",
        &[
            ("udp", r#""192.168.0.38:5060""#),
            ("persistent", r#"{ timeout = 3600, engine = "sip" }"#),
            ("one_packet", "true"),
            ("mode", r#""nat""#),
        ],
    ),
    block("service.server", &[("address", r#""192.168.0.18""#)]),
    block(
        "service",
        &[
            ("tcp", r#""192.168.0.38:443""#),
            ("mode", r#""fullnat""#),
            ("local_addresses", r#"["192.168.0.8"]"#),
            ("client_address", r#""toa""#),
            ("toa_kind", "254"),
        ],
    ),
    block("service.server", &[("address", r#""10.1.0.18:8443""#)]),
    block(
        "service",
        &[
            ("fwmark", "1"),
            (
                "match",
                r#"["tcp 192.168.0.39:80", "udp 192.168.0.39:5000-5100"]"#,
            ),
            ("persistent", "300"),
        ],
    ),
    block("service.server", &[("address", r#""192.168.0.18""#)]),
];

/// The file.
pub fn sample() -> String {
    let mut file = File::default();
    file.text += HEAD;
    for block in GENERAL {
        file.block(block);
    }
    file.sysctls();
    for block in SERVICES {
        file.block(block);
    }
    file.text
}

/// The file, and what it has explained already.
#[derive(Default)]
struct File {
    text: String,
    explained: HashSet<(&'static str, &'static str)>,
}

impl File {
    fn block(&mut self, block: &Block) {
        let table = tables().iter().find(|table| table.path == block.path);
        let Some(table) = table else {
            return;
        };
        if self.explained.insert((block.path, "")) {
            self.text.push('\n');
            self.comment(table.about);
        }
        if !table.header.is_empty() {
            let _ = write!(self.text, "\n#{}\n", table.header);
        }
        for (name, value) in block.lines {
            self.explain(block.path, name);
            let inline = format!("{}.{name}", block.path);
            let inline = tables().iter().find(|table| table.path == inline);
            for key in inline.into_iter().flat_map(|table| table.keys) {
                let (name, values) = (key.name, key.values);
                self.comment(&format!(
                    "{name}: {values} ({}). {}",
                    key.default, key.about
                ));
            }
            let _ = writeln!(self.text, "#{name} = {value}");
        }
    }

    /// A key's row, where it is new.
    fn explain(&mut self, path: &'static str, name: &'static str) {
        let Some(key) = find(path, name) else {
            return;
        };
        let twin = if path == "sync.backup" {
            "sync.master"
        } else {
            path
        };
        if self.explained.insert((twin, name)) {
            self.text.push('\n');
            self.comment(key.about);
            self.comment(&format!(
                "Values: {}. Default: {}.",
                key.values, key.default
            ));
        }
    }

    fn sysctls(&mut self) {
        self.text.push('\n');
        self.comment(
            "IPVS's sysctls, by their names under net.ipv4.vs, each with its default. The kernel's own are not touched.",
        );
        self.text += "\n#[sysctl]\n";
        for sysctl in sysctls() {
            self.text.push('\n');
            self.comment(&sysctl.about);
            self.comment(&format!("Values: {}.", sysctl.values.replace('`', "")));
            let _ = writeln!(self.text, "#{} = {}", sysctl.name, sysctl.default);
        }
    }

    /// Prose, wrapped.
    fn comment(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split(' ') {
            if line.len() + 1 + word.len() > WIDTH {
                self.text += &line;
                self.text.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line += word;
        }
        self.text += &line;
        self.text.push('\n');
    }
}
