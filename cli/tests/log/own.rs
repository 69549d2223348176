//! A daemon whose standard error is the test's own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use uvs_lab::Lab;
use uvs_lab::shell::Shell;

use crate::stand::{eventually, run};

/// Killed when it is dropped, so that no failed test leaves it.
pub(crate) struct Own<'a> {
    child: Child,
    lab: &'a Lab,
    shell: &'a Shell,
}

impl<'a> Own<'a> {
    /// Runs a script on the director that ends in `exec $RUN`, and waits until that daemon answers.
    pub(crate) fn start(lab: &'a Lab, shell: &'a Shell, script: &str, stderr: Stdio) -> Self {
        let interfaces = lab.plan.interfaces.iter();
        let interfaces: String = interfaces.map(|i| format!(" --interface {i}")).collect();
        let line = format!("{} run{interfaces}", env!("CARGO_BIN_EXE_uvs"));
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .env("RUN", line)
            .env("UVS_LOG", "debug")
            .env("UVS_SOCKET", lab.dir().join("control.sock"))
            .env("UVS_STATE_DIR", lab.dir().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let child = lab.director.enter(|| command.spawn());
        let child = child.expect("inside").expect("a shell");
        let mut own = Self { child, lab, shell };
        eventually("the daemon answers", || {
            let ended = own.child.try_wait().expect("a child");
            assert_eq!(ended, None, "it ended");
            run(lab, shell, "uvs show info").code == Some(0)
        });
        own
    }

    /// A command on the director, which must succeed.
    pub(crate) fn command(&self, line: &str) -> String {
        let ended = run(self.lab, self.shell, line);
        assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
        ended.stdout
    }

    /// A service of the lab's VIP.
    pub(crate) fn serve(&self) {
        let plan = &self.lab.plan;
        for words in [
            plan.add_service("rr"),
            plan.add_server(0, 1),
            plan.add_server(1, 1),
        ] {
            self.command(&format!("ipvsadm {words}"));
        }
    }

    /// Makes it log a line of a megabyte by asking for a sysctl of such a name.
    pub(crate) fn shout(&self) {
        let name = "x".repeat(1_000_000);
        let ask = format!(
            r#"{{"version":1,"id":1,"command":{{"sysctl":{{"name":"{name}","value":null}}}}}}"#
        );
        let stream = UnixStream::connect(self.lab.dir().join("control.sock"));
        let stream = stream.expect("it listens");
        writeln!(&stream, "{ask}").expect("it reads");
        let mut answer = String::new();
        let mut reader = BufReader::new(&stream);
        reader.read_line(&mut answer).expect("it answers");
        assert!(answer.contains("no such sysctl"), "{answer:.200}");
    }

    /// Lines that its log lacks: not written in time, and not written at all.
    pub(crate) fn losses(&self) -> (u64, u64) {
        let info: Value =
            serde_json::from_str(&self.command("uvs show info -o json")).expect("JSON");
        let count = |key| info["log"][key].as_u64().expect("a count");
        (count("queue_full"), count("write_failed"))
    }

    /// SIGTERM, which it must follow, leaving nothing behind.
    pub(crate) fn end(mut self) {
        self.signal(Signal::TERM);
        let mut status: Option<ExitStatus> = None;
        eventually("SIGTERM ends it", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        assert!(status.is_some_and(|s| s.success()), "{status:?}");
        let rules = run(self.lab, self.shell, "nft list ruleset").stdout;
        assert_eq!(rules, "", "the guard is gone");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = kill_process(pid.expect("a process"), signal);
    }
}

impl Drop for Own<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
