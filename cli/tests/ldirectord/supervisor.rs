//! ldirectord on a lab's director, as its init script runs it: `start`, `status`, `stop`.
//!
//! It runs `/sbin/ipvsadm` or `/usr/sbin/ipvsadm` and keeps its pid file in `/var/run`. So each of its
//! commands gets a mount namespace of its own in which the lab's symlinks lie over `/usr/sbin` and a
//! directory of the lab's over `/run`; the machine's own are untouched.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use uvs_lab::shell::{Ended, Shell};
use uvs_lab::{Lab, Service};

use crate::stand::{eventually, run};

pub(crate) const PROGRAM: &str = "ldirectord";

const CONFIG: &str = "ldirectord.cf";
/// Seconds. Longer than a server that is there takes, also on a busy machine.
const TIMEOUT: u32 = 6;

/// A running ldirectord; its process ends with the lab.
pub(crate) struct Ldirectord<'a> {
    lab: &'a Lab,
    shell: &'a Shell,
    config: PathBuf,
    log: PathBuf,
}

impl<'a> Ldirectord<'a> {
    /// `ldirectord FILE start`, with one virtual service.
    pub(crate) fn start(
        lab: &'a Lab,
        shell: &'a Shell,
        service: &Service,
        quiescent: &str,
        weights: &[u32],
    ) -> Self {
        let this = Self {
            lab,
            shell,
            config: lab.dir().join(CONFIG),
            log: lab.dir().join("ldirectord.log"),
        };
        fs::create_dir(this.run_dir()).expect("a directory");
        let text = configuration(service, &this.log, quiescent, weights);
        fs::write(&this.config, text).expect("written");
        let started = this.command("start");
        assert_eq!(started.code, Some(0), "{started:?}\n{}", this.log());
        // The file is made before, and written after, the daemon leaves its terminal.
        eventually("status finds it", || {
            let status = this.command("status");
            status.stderr.contains("is running with pid")
        });
        this
    }

    /// Whether its pid file is there, which it removes at its end.
    pub(crate) fn has_pid(&self) -> bool {
        let mut files = fs::read_dir(self.run_dir()).expect("its directory");
        files.next().is_some()
    }

    /// `ldirectord FILE stop`, and the time it takes to clean up.
    pub(crate) fn stop(&self) {
        let stopped = self.command("stop");
        assert_eq!(stopped.code, Some(0), "{stopped:?}\n{}", self.log());
        eventually("ldirectord is gone", || !self.has_pid());
        let status = self.command("status");
        assert!(status.stdout.contains("is stopped"), "{status:?}");
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn command(&self, word: &str) -> Ended {
        let (lab, run_dir) = (self.lab.dir().display(), self.run_dir());
        let (run_dir, config) = (run_dir.display(), self.config.display());
        let script = format!(
            "exec unshare --mount sh -ec '
mount -t overlay -o lowerdir={lab}/bin:/usr/sbin overlay /usr/sbin
mount --bind {run_dir} /run
exec {PROGRAM} {config} {word} </dev/null'"
        );
        run(self.lab, self.shell, &script)
    }

    fn run_dir(&self) -> PathBuf {
        self.lab.dir().join("run")
    }
}

fn configuration(service: &Service, log: &Path, quiescent: &str, weights: &[u32]) -> String {
    let six = if service.vip.is_ipv6() { "6" } else { "" };
    let method = match service.mode.flag() {
        "-m" => "masq",
        "-g" => "gate",
        other => panic!("ldirectord has no word for {other}"),
    };
    let check = if service.vip.is_ipv6() {
        "\tchecktype=connect\n"
    } else {
        "\tchecktype=negotiate\n\trequest=\"/\"\n\treceive=\"^rs[123]$\"\n"
    };
    let mut text = format!(
        "checktimeout={TIMEOUT}
negotiatetimeout={TIMEOUT}
checkinterval=1
cleanstop=yes
logfile=\"{}\"
quiescent={quiescent}
virtual{six}={}
\tscheduler=wrr
\tprotocol=tcp
\tservice=http
{check}",
        log.display(),
        service.vip,
    );
    for (server, weight) in service.servers.iter().zip(weights) {
        // The thresholds are never reached: they are to be listed, parsed and compared.
        let _ = writeln!(text, "\treal{six}={server} {method} {weight} l:1000 u:2000");
    }
    text
}
