//! The demo: for each mode, real HTTP through the director, weights, a drain, a removal.
//!
//! Nothing is about right here: the share of each real server is what wrr owes it, to the request, and the
//! download that runs through the drain is compared byte by byte. What differs is said and fails the demo.

use std::fmt::Display;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::daemon::run_line;
use crate::screen::Screen;
use crate::traffic::{Download, Received, requests, requests_line};
use crate::{Content, Daemon, Error, Lab, Mode, Names, Options, Result, SERVERS, rootless, share};

/// The weights of rs1, rs2 and rs3.
pub const WEIGHTS: [u32; SERVERS] = [3, 1, 2];
/// Whole wrr cycles of the weights and of any two of them: a multiple of 6, 3, 4 and 5.
const REQUESTS: u32 = 60;
/// What the download in the background brings, and at which rate: it takes about three seconds.
const DOWNLOAD: (&str, u64) = ("6M", 6 << 20);
const RATE: &str = "2m";

/// How a mode's part ended.
enum Outcome {
    Shown,
    Impossible(String),
    Failed(Error),
}

/// Shows the modes one after the other. Returns whether everything that could be shown was right, and
/// something could be shown.
pub fn run(
    screen: &mut Screen,
    uvs: &Path,
    modes: &[Mode],
    interrupted: &AtomicBool,
) -> Result<bool> {
    let start = Instant::now();
    let names = Names::unique();
    screen.title("uvs lab demo");
    screen.say(
        "Each mode gets a client, a director that runs uvs, and three real servers with nginx:",
    );
    screen.say("network namespaces of this machine, removed at the end. Lines with # are commands you could type.");
    let mut outcomes = Vec::new();
    for &mode in modes {
        let outcome = show(screen, &names, uvs, mode, interrupted)?;
        if let Outcome::Failed(error) = &outcome {
            screen.bad(format!("{mode}: {error}"));
        }
        outcomes.push((mode, outcome));
    }
    let left = names.namespaces();
    Ok(summary(
        screen,
        &outcomes,
        &left,
        start.elapsed().as_secs_f32(),
    ))
}

fn show(
    screen: &mut Screen,
    names: &Names,
    uvs: &Path,
    mode: Mode,
    interrupted: &AtomicBool,
) -> Result<Outcome> {
    screen.title(format!("{mode}: {}", about(mode)));
    let lab = Lab::build_as(names, mode, Options::default())?;
    match (Show {
        screen,
        lab: &lab,
        uvs,
        interrupted,
    })
    .whole()
    {
        Ok(()) => Ok(Outcome::Shown),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => Ok(impossible(mode).map_or(Outcome::Failed(error), Outcome::Impossible)),
    }
}

fn about(mode: Mode) -> &'static str {
    match mode {
        Mode::Dr => {
            "the director changes only the MAC address; the real server answers the client itself"
        }
        Mode::Nat => "the director is the real servers' default gateway and rewrites both ways",
        Mode::FullNat => {
            "real servers on port 8080 see a local address of the director and need no route back"
        }
        Mode::Ipip => {
            "the director wraps packets; real servers in another subnet unwrap and answer the client"
        }
    }
}

/// Why this machine cannot have the mode at all, if so: a user namespace cannot make /dev/net/tun's
/// permissions any wider.
fn impossible(mode: Mode) -> Option<String> {
    if mode != Mode::Ipip || !rootless::is_rootless() {
        return None;
    }
    let opened = File::options().read(true).write(true).open("/dev/net/tun");
    let error = opened
        .err()
        .filter(|e| matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound))?;
    Some(format!(
        "/dev/net/tun, by which a real server unwraps without root: {error}; run the demo as root"
    ))
}

fn summary(
    screen: &mut Screen,
    outcomes: &[(Mode, Outcome)],
    left: &[String],
    seconds: f32,
) -> bool {
    screen.title("summary");
    let (mut shown, mut wrong) = (0, 0);
    for (mode, outcome) in outcomes {
        match outcome {
            Outcome::Shown => {
                shown += 1;
                screen.good(format!("{mode:<8} every share exact, drained, removed"));
            }
            Outcome::Impossible(why) => screen.bad(format!("{mode:<8} not shown: {why}")),
            Outcome::Failed(error) => {
                wrong += 1;
                let text = error.to_string();
                screen.bad(format!(
                    "{mode:<8} FAILED: {}",
                    text.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    if !left.is_empty() {
        wrong += 1;
        screen.bad(format!("left behind: {}", left.join(", ")));
    }
    let modes = outcomes.len();
    screen.say(format!(
        "{shown} of {modes} modes shown in {seconds:.1} s; {} namespaces left behind.",
        left.len()
    ));
    shown > 0 && wrong == 0
}

/// One mode's part.
struct Show<'a> {
    screen: &'a mut Screen,
    lab: &'a Lab,
    uvs: &'a Path,
    interrupted: &'a AtomicBool,
}

impl<'a> Show<'a> {
    fn whole(&mut self) -> Result<()> {
        self.check_interrupt()?;
        let content = self.lab.content(DOWNLOAD.0, DOWNLOAD.1)?;
        self.introduce();
        let daemon = self.set_up()?;
        let names = self
            .lab
            .servers
            .iter()
            .map(|server| server.name().to_owned());
        let mut servers: Vec<_> = names.zip(WEIGHTS).collect();
        self.say("Weights 3:1:2, and each request on a connection of its own:")?;
        self.count(&servers)?;
        let drained = self.drain(&daemon, &content, &mut servers)?;
        self.ipvsadm(&daemon, &self.lab.plan.delete_server(drained))?;
        let (removed, _) = servers.remove(drained);
        self.say(format!("{removed} is removed. The others answer:"))?;
        self.count(&servers)?;
        self.table(&daemon)?;
        daemon.stop()
    }

    fn introduce(&mut self) {
        let plan = &self.lab.plan;
        let servers = self.lab.servers.iter().zip(plan.servers);
        let servers: Vec<_> = servers
            .map(|(s, address)| format!("{} {address}", s.name()))
            .collect();
        self.screen.say(format!(
            "client {}   director {}   VIP {}",
            plan.client, plan.director, plan.vip
        ));
        self.screen.say(servers.join("   "));
    }

    fn set_up(&mut self) -> Result<Daemon<'a>> {
        let lab = self.lab;
        if let Some(line) = lab.prepare_line() {
            self.screen.command("rs1, rs2, rs3", format!("uvs {line}"));
            lab.prepare_servers(self.uvs)?;
        }
        self.screen
            .command("director", format!("uvs {}", run_line(lab)));
        let daemon = lab.start_daemon(self.uvs)?;
        self.ipvsadm(&daemon, &lab.plan.add_service("wrr"))?;
        for (server, weight) in WEIGHTS.into_iter().enumerate() {
            self.ipvsadm(&daemon, &lab.plan.add_server(server, weight))?;
        }
        Ok(daemon)
    }

    /// Sets the weight of whichever server sends the download to 0, while it does.
    fn drain(
        &mut self,
        daemon: &Daemon<'_>,
        content: &Content,
        servers: &mut [(String, u32)],
    ) -> Result<usize> {
        let url = self.lab.plan.url(&format!("{}?rate={RATE}", content.path));
        self.screen
            .command("client", format!("curl -s '{url}' | sha256sum &"));
        let download = Download::start(&self.lab.client, &url, &self.lab.dir().join("download"))?;
        let sender = download.server()?;
        let drained = servers.iter().position(|(name, _)| *name == sender);
        let stranger = || Error::Wrong(format!("{sender:?} answers, which is no real server"));
        let drained = drained.ok_or_else(stranger)?;
        self.say(format!(
            "{sender} sends it. Its weight becomes 0 meanwhile: no new connections."
        ))?;
        servers[drained].1 = 0;
        self.ipvsadm(daemon, &self.lab.plan.edit_server(drained, 0))?;
        self.count(servers)?;
        self.table(daemon)?;
        if download.is_finished() {
            let early = format!(
                "the download ended before {REQUESTS} requests were done: nothing was shown"
            );
            return Err(Error::Wrong(early));
        }
        let received = download.finish()?;
        received.must_equal(content)?;
        let Received {
            server,
            length,
            sha256,
        } = received;
        let hash = &sha256[..16];
        self.screen.good(format!(
            "The download from {server} went on to its end: {length} bytes, sha256 {hash}… right."
        ));
        Ok(drained)
    }

    /// Drives requests and compares who answered with what the weights say.
    fn count(&mut self, servers: &[(String, u32)]) -> Result<()> {
        self.check_interrupt()?;
        let url = self.lab.plan.url("/");
        self.screen.command("client", requests_line(&url, REQUESTS));
        let answers = requests(&self.lab.client, &url, REQUESTS)?;
        let shares = share::compare(servers, &answers);
        self.screen.shares(&shares);
        let wrong = shares.iter().filter(|s| s.answered != s.expected);
        let wrong: Vec<_> = wrong
            .map(|s| {
                format!(
                    "{} answered {} instead of {}",
                    s.server, s.answered, s.expected
                )
            })
            .collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(Error::Wrong(wrong.join(", ")))
        }
    }

    fn table(&mut self, daemon: &Daemon<'_>) -> Result<()> {
        let table = self.ipvsadm(daemon, "-ln")?;
        self.screen.quote(&table);
        Ok(())
    }

    fn ipvsadm(&mut self, daemon: &Daemon<'_>, words: &str) -> Result<String> {
        self.check_interrupt()?;
        self.screen.command("director", format!("ipvsadm {words}"));
        daemon.ipvsadm(words)
    }

    fn say(&mut self, text: impl Display) -> Result<()> {
        self.screen.say(text);
        self.check_interrupt()
    }

    fn check_interrupt(&self) -> Result<()> {
        if self.interrupted.load(Ordering::Relaxed) {
            Err(Error::Interrupted)
        } else {
            Ok(())
        }
    }
}
