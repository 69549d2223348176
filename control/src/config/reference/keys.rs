//! The rows.

use super::{Key, Table};

const fn key(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    about: &'static str,
) -> Key {
    Key {
        name,
        values,
        default,
        about,
    }
}

pub(super) const TABLES: &[Table] = &[
    Table {
        path: "",
        header: "",
        about: "What the daemon runs on, and what holds for all services.",
        keys: TOP,
    },
    Table {
        path: "metrics",
        header: "[metrics]",
        about: "What Prometheus is told, and where.",
        keys: METRICS,
    },
    Table {
        path: "limits",
        header: "[limits]",
        about: "Sizes. They hold for the life of the process: a change needs a restart or an upgrade.",
        keys: LIMITS,
    },
    Table {
        path: "timeouts",
        header: "[timeouts]",
        about: "Seconds after which a silent connection is forgotten, as ipvsadm --set sets them.",
        keys: TIMEOUTS,
    },
    Table {
        path: "plugins",
        header: "[plugins]",
        about: "Scheduler plugins.",
        keys: PLUGINS,
    },
    Table {
        path: "confinement",
        header: "[confinement]",
        about: "What the daemon gives up at its start. A change needs a restart or an upgrade.",
        keys: CONFINEMENT,
    },
    Table {
        path: "connection_log",
        header: "[connection_log]",
        about: "Where the connections of services with connection_log = true are logged. A change needs a restart or an upgrade.",
        keys: CONNECTION_LOG,
    },
    Table {
        path: "hook",
        header: "[hook]",
        about: "How much of its work the daemon gives to the kernel.",
        keys: HOOK,
    },
    Table {
        path: "sync.master",
        header: "[sync.master]",
        about: "A sync daemon that tells other directors of this one's connections.",
        keys: SYNC,
    },
    Table {
        path: "sync.backup",
        header: "[sync.backup]",
        about: "A sync daemon that learns the connections of other directors.",
        keys: SYNC,
    },
    Table {
        path: "service",
        header: "[[service]]",
        about: "A virtual service. Repeat the table for each.",
        keys: SERVICE,
    },
    Table {
        path: "service.persistent",
        header: "",
        about: "Persistence that is more than a number of seconds.",
        keys: PERSISTENT,
    },
    Table {
        path: "service.server",
        header: "[[service.server]]",
        about: "A real server of the service above. Repeat the table for each; as with ipvsadm -a, the scheduler's list begins with the last.",
        keys: SERVER,
    },
    Table {
        path: "service.server.tunnel",
        header: "",
        about: "The encapsulation of a server of mode \"ipip\".",
        keys: TUNNEL,
    },
];

const TOP: &[Key] = &[
    key(
        "interfaces",
        "a list of names, each once",
        "none: uvs run --interface names them",
        "The interfaces on which client and server traffic arrives. A change needs a restart.",
    ),
    key(
        "own_vips",
        "\"none\", \"all\" or a list of addresses",
        "\"none\"",
        "The VIPs that UVS answers for while no interface has them. Not those that keepalived moves: a stand-by director must be silent about them. uvs run --own-vip overrides it.",
    ),
    key(
        "socket",
        "an absolute path of at most 107 bytes",
        "$UVS_SOCKET, else /run/uvs/control.sock",
        "The control socket. Who uses another one tells the commands by $UVS_SOCKET. A change needs a restart.",
    ),
    key(
        "deny",
        "a list of addresses, prefixes or \"all\"",
        "[]",
        "Clients that are kept out of every service; of a service's own table, out of that one.",
    ),
    key(
        "allow",
        "a list of addresses, prefixes or \"all\"",
        "[]",
        "Exceptions to deny.",
    ),
    key(
        "deny_file",
        "an absolute path",
        "none",
        "A file of prefixes to deny, one a line. It is read again when it changes.",
    ),
    key(
        "allow_file",
        "an absolute path",
        "none",
        "A file of prefixes to allow, likewise.",
    ),
    key(
        "host_firewall",
        "\"follow\" or \"ignore\"",
        "\"follow\"",
        "Whether what the host's INPUT chain certainly drops by source address is kept out of services too.",
    ),
    key(
        "workers",
        "1 to 64, or \"auto\": one for each CPU that the daemon may run on",
        "$UVS_WORKERS, else 1",
        "How many workers forward. uvs run --workers overrides it.",
    ),
    key(
        "worker_cpus",
        "a list of CPUs' numbers",
        "where the kernel puts them",
        "Worker 0 runs on the first, and so on, and round again where there are more workers.",
    ),
    key(
        "busy_poll",
        "microseconds, 0 to 1000000",
        "0",
        "For how long a worker looks for frames before it sleeps.",
    ),
];

const METRICS: &[Key] = &[
    key(
        "address",
        "\"ADDRESS:PORT\" or \"off\"",
        "\"127.0.0.1:9650\"",
        "Where metrics are served. uvs run --metrics overrides it.",
    ),
    key(
        "max_backends",
        "0 to 1000000",
        "5000",
        "Real servers above which only services have series.",
    ),
    key(
        "compat",
        "\"none\" or \"node_ipvs\"",
        "\"none\"",
        "Whether node_exporter's series of IPVS are served too.",
    ),
];

const LIMITS: &[Key] = &[
    key(
        "connections",
        "1 to 16777216",
        "1000000",
        "Connections in the table.",
    ),
    key(
        "local_ports",
        "\"FIRST-LAST\"",
        "\"1024-32767\"",
        "FULLNAT's local ports. They must lie outside the host's net.ipv4.ip_local_port_range.",
    ),
    key(
        "fragment_bytes",
        "0 to 1073741824",
        "4194304",
        "Bytes of fragments that wait for the rest of their datagrams.",
    ),
];

const TIMEOUTS: &[Key] = &[
    key(
        "tcp",
        "seconds, 1 to 2147483",
        "900",
        "An established TCP connection.",
    ),
    key(
        "tcp_fin",
        "seconds, 1 to 2147483",
        "120",
        "A TCP connection that is being closed.",
    ),
    key("udp", "seconds, 1 to 2147483", "300", "A UDP flow."),
];

const PLUGINS: &[Key] = &[
    key(
        "directory",
        "an absolute path",
        "$UVS_PLUGIN_DIR, else \"/usr/lib/uvs/schedulers\"",
        "Where scheduler plugins are. uvs run --plugin-dir overrides it.",
    ),
    key(
        "max_faults",
        "0 to 4294967295; 0 forgives any number",
        "10",
        "Faults of a plugin that a service forgives before another scheduler takes its place.",
    ),
    key(
        "scheduler_budget",
        "microseconds, 0 to 1000000; 0 is any time",
        "1000",
        "How long a plugin may take to pick a server: a pick that takes longer by the plugin's own doing is a fault.",
    ),
    key(
        "load",
        "a list of files",
        "[]",
        "Plugins to load at the start. Others are found by their name in a service.",
    ),
];

const CONFINEMENT: &[Key] = &[
    key(
        "capabilities",
        "\"drop\", \"keep\"",
        "\"drop\"",
        "Whether capabilities that a director does not need are given up.",
    ),
    key(
        "seccomp",
        "\"on\", \"log\", \"off\"",
        "$UVS_SECCOMP, else \"on\"",
        "Whether system calls that no director needs are refused, or only told of. uvs run --seccomp overrides it.",
    ),
];

const CONNECTION_LOG: &[Key] = &[
    key(
        "to",
        "a file's absolute path, \"journald\" or \"unix:SOCKET\"",
        "required in this table",
        "Where lines go. SIGUSR1 opens the file again.",
    ),
    key(
        "starts",
        "true or false",
        "false",
        "Whether a connection's start is a line too.",
    ),
    key(
        "queue",
        "64 to 1048576",
        "8192",
        "Lines of each worker that may wait for the disk. Those beyond are lost, and counted.",
    ),
];

const HOOK: &[Key] = &[
    key(
        "mode",
        "\"auto\", \"tier\", \"guard\" or \"off\"",
        "$UVS_HOOK, else \"auto\"",
        "\"auto\": as much as the kernel takes. \"tier\": it forwards what is established, \"guard\": it tells UVS's frames from the host's, and nothing less. \"off\": nothing. uvs run --hook overrides it.",
    ),
    key(
        "connections",
        "1 to 4194304",
        "65536",
        "Connections that the kernel forwards at most. More stay in user space.",
    ),
    key(
        "heartbeat",
        "seconds, 2 to 3600",
        "60",
        "For how long the kernel goes on by itself while no daemon is there. After that the host has everything back.",
    ),
    key(
        "pins",
        "an absolute path in a bpffs",
        "\"/sys/fs/bpf/uvs\"",
        "Where what outlives a killed daemon is pinned. Under uvs.service another directory has to be let into the unit.",
    ),
];

const SYNC: &[Key] = &[
    key(
        "interface",
        "an interface's name",
        "required in this table",
        "By which the directors speak.",
    ),
    key(
        "syncid",
        "0 to 255",
        "0",
        "Tells groups of directors apart. A backup with 0 hears all of them.",
    ),
    key(
        "maxlen",
        "bytes, 1 to 65507",
        "what the interface's MTU allows",
        "How long a message may be.",
    ),
    key(
        "group",
        "a multicast address",
        "\"224.0.0.81\"",
        "Where messages are sent, or heard.",
    ),
    key("port", "1 to 65535", "8848", "UDP port of the messages."),
    key("ttl", "1 to 255", "1", "TTL of the messages."),
    key(
        "peers",
        "a list of 1 to 16 addresses of one family",
        "none: the group",
        "The other directors, in place of a group.",
    ),
    key(
        "key_file",
        "an absolute path",
        "none",
        "A file of which all directors have a copy; messages are sealed by it.",
    ),
    key(
        "bulk",
        "true or false",
        "false",
        "Of the backup, to ask for all connections when it starts; of the master, to tell all who ask. Needs key_file.",
    ),
];

const SERVICE: &[Key] = &[
    key(
        "tcp",
        "\"VIP:PORT\"; IPv6 as \"[2001:db8::1]:80\"",
        "one of tcp, udp, sctp and fwmark is required",
        "The service's address. Port 0 stands for every port and needs persistent.",
    ),
    key(
        "udp",
        "\"VIP:PORT\"",
        "one of tcp, udp, sctp and fwmark is required",
        "The same, of UDP.",
    ),
    key(
        "sctp",
        "\"VIP:PORT\"",
        "one of tcp, udp, sctp and fwmark is required",
        "The same, of SCTP.",
    ),
    key(
        "fwmark",
        "1 to 4294967295",
        "one of tcp, udp, sctp and fwmark is required",
        "A service of a firewall mark, as ipvsadm -f has it. Its packets are those of match: netfilter's marks are not seen.",
    ),
    key(
        "match",
        "a list of \"PROTOCOL ADDRESS[/LENGTH][:PORT[-LAST]]\"; PROTOCOL is tcp, udp, sctp, or any for all three",
        "none",
        "With fwmark: what has the mark. Of several that match a packet the most exact counts.",
    ),
    key(
        "scheduler",
        "rr, wrr, lc, wlc, sed, nq, fo, ovf, sh, dh, mh, lblc, lblcr, twos, swrr, p2c, lrt, or a plugin's name",
        "\"wlc\"",
        "Who picks the server of a new connection.",
    ),
    key(
        "flags",
        "a list of \"sh-fallback\", \"sh-port\" (scheduler sh), \"mh-fallback\", \"mh-port\" (mh), \"flag-1\" to \"flag-3\" (any)",
        "[]",
        "The scheduler's flags, as ipvsadm -b has them.",
    ),
    key(
        "table_size",
        "a prime from 251 to 16777216",
        "4093",
        "With scheduler mh: entries of its table. Plugins are given it too.",
    ),
    key(
        "mode",
        "\"dr\", \"nat\", \"fullnat\" or \"ipip\"",
        "\"dr\"",
        "How packets reach the servers that do not say otherwise.",
    ),
    key(
        "local_addresses",
        "a list of addresses of this host, of the servers' families",
        "required with mode \"fullnat\"",
        "With FULLNAT: the addresses that the servers answer to.",
    ),
    key(
        "persistent",
        "seconds, 1 to 2678400, or { timeout = …, netmask = …, engine = … }",
        "off",
        "For so long one client stays with one server.",
    ),
    key(
        "one_packet",
        "true or false",
        "false",
        "Of udp and fwmark: every datagram is scheduled on its own.",
    ),
    key(
        "slow_start",
        "seconds, 0 to 86400",
        "0",
        "For so long a new or recovered server comes to its weight. Not with sh, dh and mh.",
    ),
    key(
        "on_removal",
        "\"keep\", \"drop\" or \"tell\"",
        "\"keep\"",
        "What becomes of a removed server's connections. \"keep\": they go silent, as with IPVS. \"drop\": they end. \"tell\" (tcp, udp): they end, and both ends are told at once.",
    ),
    key(
        "on_expiry",
        "\"drop\" or \"tell\"",
        "\"drop\"",
        "How idle connections end: silently as with IPVS, or (tcp) by a RST to both ends.",
    ),
    key(
        "drain_timeout",
        "seconds, 1 to 2678400",
        "never",
        "After so long a server of weight 0 loses the connections it has left.",
    ),
    key(
        "deny",
        "as at the top",
        "[]",
        "Clients that are kept out of this service. A client must pass both lists.",
    ),
    key("allow", "as at the top", "[]", "Exceptions to deny."),
    key(
        "deny_file",
        "an absolute path",
        "none",
        "A file of prefixes to deny.",
    ),
    key(
        "allow_file",
        "an absolute path",
        "none",
        "A file of prefixes to allow.",
    ),
    key(
        "new_connections_per_second",
        "0 to 10000000; 0 is no limit",
        "0",
        "New connections of all clients.",
    ),
    key(
        "new_connections_burst",
        "0 to 10000000",
        "one second's worth",
        "So many of them at once.",
    ),
    key(
        "new_connections_per_client",
        "0 to 10000000; 0 is no limit",
        "0",
        "New connections a second of each client.",
    ),
    key(
        "new_connections_per_client_burst",
        "0 to 10000000",
        "one second's worth",
        "So many of them at once.",
    ),
    key(
        "client_prefix",
        "1 to 32; for IPv6 1 to 128",
        "32; for IPv6 64",
        "Bits of an address that make a client.",
    ),
    key(
        "connection_log",
        "true or false",
        "false",
        "Whether its connections are logged, as [connection_log] says.",
    ),
    key(
        "client_address",
        "\"packet\", \"proxy-v1\" (tcp), \"proxy-v2\" (tcp, udp) or \"toa\" (tcp)",
        "\"packet\": by nothing beside packets",
        "Of NAT and FULLNAT: by what servers learn their clients' addresses.",
    ),
    key(
        "proxy_authority",
        "a host name, up to 255 bytes",
        "none",
        "With \"proxy-v2\": the name that the header says beside.",
    ),
    key(
        "toa_kind",
        "70 to 254",
        "254",
        "With \"toa\": the TCP option's kind.",
    ),
    key(
        "timestamps",
        "\"keep\", \"strip\" or \"offset\"",
        "\"keep\"",
        "Of NAT and FULLNAT, tcp: what becomes of clients' TCP timestamps.",
    ),
];

const PERSISTENT: &[Key] = &[
    key("timeout", "seconds, 1 to 2678400", "360", "For how long."),
    key(
        "netmask",
        "\"255.255.255.0\" and the like; for IPv6 a prefix length, 1 to 128",
        "each address by itself",
        "Which addresses are one client.",
    ),
    key(
        "engine",
        "\"sip\"",
        "none",
        "With sip, each call of a client may have another server: the Call-ID of its datagrams decides, those without are dropped. For udp and fwmark, mostly with one_packet.",
    ),
];

const SERVER: &[Key] = &[
    key(
        "address",
        "\"IP\" or \"IP:PORT\"",
        "required; its port is the service's",
        "The server. Of the VIP's family, but with FULLNAT.",
    ),
    key(
        "weight",
        "0 to 2147483647",
        "1",
        "Its share. 0 takes no new connections and keeps those it has.",
    ),
    key(
        "mode",
        "as in the service",
        "the service's",
        "How packets reach it.",
    ),
    key(
        "upper_threshold",
        "0 to 2147483647; 0 is no limit",
        "0",
        "Connections at which it gets no more.",
    ),
    key(
        "lower_threshold",
        "0 to upper_threshold; 0 is three quarters of that",
        "0",
        "Connections under which it gets new ones again.",
    ),
    key(
        "tunnel",
        "{ kind = …, port = …, checksum = … }",
        "{ kind = \"ipip\" }",
        "With mode \"ipip\": the encapsulation.",
    ),
];

const TUNNEL: &[Key] = &[
    key(
        "kind",
        "\"ipip\", \"gue\" or \"gre\"",
        "\"ipip\"",
        "Which it is.",
    ),
    key(
        "port",
        "1 to 65535",
        "required with gue",
        "Of gue: the UDP port.",
    ),
    key(
        "checksum",
        "\"none\", \"full\" (gue, gre) or \"remote\" (gue)",
        "\"none\"",
        "Of gue and gre: the outer checksum.",
    ),
];
