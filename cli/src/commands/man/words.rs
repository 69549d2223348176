//! What the pages say beside what the command line says of itself: longer descriptions, examples, pages to read on. A command
//! without words here has its page all the same.

/// About one command.
pub(super) struct Words {
    /// Its page.
    pub(super) page: &'static str,
    /// Paragraphs.
    pub(super) about: &'static [&'static str],
    /// Lines as they are typed, and what they do.
    pub(super) examples: &'static [(&'static str, &'static str)],
    /// Exit codes, where they are its own.
    pub(super) exit: Option<&'static [(&'static str, &'static str)]>,
    /// Other pages.
    pub(super) see: &'static [&'static str],
}

/// Those of a page.
pub(super) fn of(page: &str) -> Option<&'static Words> {
    WORDS.iter().find(|words| words.page == page)
}

const IPVSADM_EXIT: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1, 2, 255", "Refused, failed or misused, as ipvsadm ends."),
];

pub(super) const WORDS: &[Words] = &[
    Words {
        page: "uvs",
        about: &[
            "UVS is a layer 4 load balancer that does what LVS does, without the kernel's IPVS: one program on AF_PACKET sockets. It speaks ipvsadm's commands, forwards by direct routing, NAT, full NAT and tunnels, and has IPVS's schedulers and some of its own.",
            "uvs run is the daemon; all other commands are its clients, or look at the host. uvs.service runs it with /etc/uvs/uvs.toml.",
        ],
        examples: &[
            (
                "uvs run --interface eth0",
                "Start with an empty table, to be filled by ipvsadm.",
            ),
            ("uvs check /etc/uvs/uvs.toml", "Every mistake in a file."),
            (
                "uvs doctor",
                "What keeps this director, or this real server, from working.",
            ),
            ("uvs top", "Watch it."),
        ],
        exit: None,
        see: &["uvs.toml(5)", "ipvsadm(8)", "systemd(1)"],
    },
    Words {
        page: "uvs-run",
        about: &[
            "The daemon, in the foreground. It takes what is for its services from the interfaces named, keeps the host's kernel from answering it, and forwards it to real servers. Services come from the configuration, or by ipvsadm(8), keepalived(8) and the commands of uvs(8) while it runs.",
            "It needs CAP_NET_RAW and CAP_NET_ADMIN; with CAP_BPF, established connections are forwarded within the kernel. Root has them all; uvs.service gives them to the user uvs.",
            "SIGTERM and SIGINT stop it, SIGHUP has it read its configuration again, SIGUSR1 has it open the file of the connection log again. It tells systemd when it is ready, reloads, stops and lives (sd_notify).",
        ],
        examples: &[
            ("uvs run --config /etc/uvs/uvs.toml", "What a file says."),
            (
                "uvs run --interface eth0 --own-vip 192.168.0.38",
                "An empty table, and answers for a VIP that no interface has.",
            ),
        ],
        exit: Some(&[
            ("0", "Ended by a signal."),
            ("1", "It could not start, or had to end."),
            ("2", "Wrong usage, or an invalid configuration."),
        ]),
        see: &["uvs.toml(5)", "uvs-reload(8)", "uvs-upgrade(8)"],
    },
    Words {
        page: "uvs-check",
        about: &[
            "Says whether a configuration file is right, and names every mistake by line, column and key, with what would be right. It needs neither root nor a daemon. What depends on the host, such as whether an interface exists, is for uvs-doctor(8).",
        ],
        examples: &[
            ("uvs check /etc/uvs/uvs.toml", "For people."),
            ("uvs check /etc/uvs/uvs.toml -o json", "For programs."),
        ],
        exit: Some(&[
            ("0", "The file is valid. Warnings are on standard error."),
            ("2", "It is not, or it cannot be read."),
        ]),
        see: &["uvs.toml(5)", "uvs-doctor(8)"],
    },
    Words {
        page: "uvs-doctor",
        about: &[
            "Looks at a director, or at a real server, and says what is wrong, why it matters, and the command that fixes it. It changes nothing.",
        ],
        examples: &[
            ("uvs doctor", "A running director, or a real server."),
            (
                "uvs doctor --config /etc/uvs/uvs.toml",
                "A host before its daemon starts.",
            ),
        ],
        exit: Some(&[
            ("0", "No error was found."),
            ("1", "There is one."),
            ("2", "Wrong usage."),
        ]),
        see: &["uvs-rs(8)", "uvs-trace(8)"],
    },
    Words {
        page: "uvs-guard",
        about: &[
            "A packet socket only taps: the kernel handles every frame as well. The guard, an nft table at the interfaces' ingress, keeps from it what UVS serves. The daemon puts it up and takes it away; with the hook there is none.",
        ],
        examples: &[(
            "uvs guard down",
            "After a daemon was killed, and is not to be started again.",
        )],
        exit: None,
        see: &["nft(8)"],
    },
    Words {
        page: "uvs-ipvsadm",
        about: &[
            "Everything behind the word is ipvsadm's: its commands, its options, its output and its exit codes. Called by the name ipvsadm, uvs does the same.",
        ],
        examples: &[("uvs ipvsadm -A -t 192.168.0.38:80 -s wrr", "Add a service.")],
        exit: Some(IPVSADM_EXIT),
        see: &["ipvsadm(8)"],
    },
    Words {
        page: "uvs-ipvs-run",
        about: &[
            "Runs a program that was written for the kernel's IPVS against the daemon, unmodified. It is started in this process's place with the library libuvs_ipvs.so preloaded, which carries what it asks of the kernel's IPVS to the daemon. In a unit, LD_PRELOAD and UVS_IPVS_SOCKET do the same.",
            "With --trace, a program that no library reaches is started beside this process, which stays, takes its system calls to IPVS from the kernel, and carries them.",
        ],
        examples: &[
            ("uvs ipvs-run -- keepalived -n -l -D", "keepalived."),
            (
                "uvs ipvs-run --trace -- PROGRAM",
                "One that is linked statically, or written in Go.",
            ),
        ],
        exit: Some(&[
            ("127", "There is no such program."),
            (
                "1, 2",
                "It cannot be run against the daemon, and why is said.",
            ),
            ("other", "The program's own."),
        ]),
        see: &["keepalived(8)", "ipvsadm(8)"],
    },
    Words {
        page: "uvs-rs",
        about: &[
            "What each forwarding mode needs of a real server: the VIP on lo and silence about it for direct routing, a tunnel's device for IPIP, the default route for NAT. up may be run again at any time and remembers what it found; down restores exactly that; check changes nothing. The unit uvs-rs@.service does it at every boot.",
        ],
        examples: &[
            (
                "uvs rs up --mode dr --vip 192.168.0.38",
                "A real server by direct routing.",
            ),
            (
                "uvs rs check --mode dr --vip 192.168.0.38",
                "What is wrong, with the command that fixes it.",
            ),
        ],
        exit: Some(&[
            ("0", "Done; for check, nothing is wrong."),
            ("1", "Failed; for check, something is wrong."),
            ("2", "Wrong usage."),
        ]),
        see: &["uvs-doctor(8)", "ip(8)"],
    },
    Words {
        page: "uvs-plugin",
        about: &[
            "A scheduler of one's own is a shared library with one symbol, in C or Rust; the package uvs-dev has the header and examples. new writes a project, check proves a file against the contract before it is used, list and reload ask the daemon.",
        ],
        examples: &[("uvs plugin list", "What is loaded.")],
        exit: None,
        see: &["uvs.toml(5)"],
    },
    Words {
        page: "uvs-reload",
        about: &[
            "The daemon reads its configuration file again and applies it as one step, or refuses it whole and says why; running connections go on. What ipvsadm has changed since is then what the file says. interfaces, socket and [limits] need a restart.",
        ],
        examples: &[("uvs reload", "The same as systemctl reload uvs.")],
        exit: None,
        see: &["uvs.toml(5)", "uvs-check(8)", "uvs-upgrade(8)"],
    },
    Words {
        page: "uvs-upgrade",
        about: &[
            "The daemon starts its program anew, as it is installed now and with the words that it was itself started with, and hands over to it: connections, counters, sockets and what commands have changed go on, and frames wait for some milliseconds. Where the new process refuses, crashes or hangs, the running one goes on, and it is said why.",
            "What has changed in the configuration's services comes with the next uvs reload. The package does this when it is upgraded.",
        ],
        examples: &[
            ("uvs upgrade", "After a new release was installed."),
            (
                "uvs upgrade --binary /usr/local/bin/uvs-old",
                "Another program, such as the release before.",
            ),
        ],
        exit: None,
        see: &["uvs-run(8)", "uvs-reload(8)"],
    },
    Words {
        page: "uvs-show",
        about: &[
            "What the daemon knows, as tables for people and as JSON for programs (-o json). Filters by service, server and client, and --watch.",
        ],
        examples: &[
            ("uvs show servers -o wide", "Real servers, all columns."),
            ("uvs show drops", "Why frames were dropped."),
            ("uvs show info", "The daemon itself."),
        ],
        exit: None,
        see: &["uvs-top(8)", "uvs-trace(8)", "ipvsadm(8)"],
    },
    Words {
        page: "uvs-drain",
        about: &[
            "Sets a server's weight to 0 in every service that has it, or in one, and waits until none of its connections is open any more. Then the server may be stopped.",
        ],
        examples: &[(
            "uvs drain 192.168.0.18 --timeout 600",
            "Give up waiting after ten minutes.",
        )],
        exit: None,
        see: &["uvs.toml(5)"],
    },
    Words {
        page: "uvs-mark",
        about: &[
            "Says which packets belong to a service of ipvsadm -f: a packet socket gets a frame before netfilter could mark it. Of several rules that match a packet the most exact counts.",
        ],
        examples: &[(
            "uvs mark 1 tcp 192.168.0.38:80 192.168.0.38:443",
            "In place of iptables -j MARK --set-mark 1.",
        )],
        exit: None,
        see: &["ipvsadm(8)"],
    },
    Words {
        page: "uvs-top",
        about: &[
            "Services, their servers and their connections with rates, full-screen; h lists the keys. Where there is no terminal it prints plain tables.",
        ],
        examples: &[],
        exit: None,
        see: &["uvs-show(8)", "uvs-latency(8)"],
    },
    Words {
        page: "uvs-sysctl",
        about: &[
            "IPVS's sysctls of the daemon, by their names and with their defaults, as sysctl(8) reads and sets the kernel's. The kernel's own are not touched.",
        ],
        examples: &[
            ("uvs sysctl -a", "All of them."),
            ("uvs sysctl net.ipv4.vs.expire_nodest_conn=1", "Set one."),
        ],
        exit: None,
        see: &["uvs.toml(5)", "sysctl(8)"],
    },
    Words {
        page: "uvs-trace",
        about: &[
            "Every decision about a packet, made by the engine's own code and without consequences: connection, service, scheduler, mode, next hop, rewrite, verdict. Of a made-up packet, of those in a capture file (--pcap, even without a daemon), or of real ones as they pass (--live).",
        ],
        examples: &[(
            "uvs trace 172.16.254.100:4711 172.16.254.200:80",
            "A SYN of this client.",
        )],
        exit: None,
        see: &["uvs-doctor(8)", "tcpdump(8)"],
    },
];
