//! One mode's part of the demo: requests by weight, a drain with a download running, a removal.

use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::WEIGHTS;
use crate::daemon::run_line;
use crate::screen::Screen;
use crate::traffic::{Download, Received, requests, requests_line};
use crate::{Content, Daemon, Error, Lab, Result, Service, share};

/// Whole wrr cycles of the weights and of any two of them: a multiple of 6, 3, 4 and 5.
const REQUESTS: u32 = 60;
/// What the download in the background brings, and at which rate: it takes about three seconds.
const DOWNLOAD: (&str, u64) = ("6M", 6 << 20);
const RATE: &str = "2m";

/// What a mode's part is shown with.
pub(super) struct Part<'a> {
    pub(super) screen: &'a mut Screen,
    pub(super) lab: &'a Lab,
    pub(super) service: Service,
    pub(super) uvs: &'a Path,
    pub(super) interrupted: &'a AtomicBool,
}

impl<'a> Part<'a> {
    /// Says who is who, and does what the mode needs of real servers.
    pub(super) fn prepare(&mut self) -> Result<()> {
        self.check_interrupt()?;
        self.introduce();
        if let Some(line) = self.lab.prepare_line() {
            self.screen.command("rs1, rs2, rs3", format!("uvs {line}"));
        }
        self.lab.prepare_servers(self.uvs)
    }

    /// Counts, drains, removes.
    pub(super) fn show(&mut self) -> Result<()> {
        let content = self.lab.content(DOWNLOAD.0, DOWNLOAD.1)?;
        let daemon = self.start()?;
        let names = self
            .lab
            .servers
            .iter()
            .map(|server| server.name().to_owned());
        let mut servers: Vec<_> = names.zip(WEIGHTS).collect();
        self.say("Weights 3:1:2, and each request on a connection of its own:")?;
        self.count(&servers)?;
        let drained = self.drain(&daemon, &content, &mut servers)?;
        self.ipvsadm(&daemon, &self.service.delete_server(drained))?;
        let (removed, _) = servers.remove(drained);
        self.say(format!("{removed} is removed. The others answer:"))?;
        self.count(&servers)?;
        self.table(&daemon)?;
        daemon.stop()
    }

    fn introduce(&mut self) {
        let service = &self.service;
        let servers = self.lab.servers.iter().zip(service.servers);
        let servers: Vec<_> = servers
            .map(|(s, address)| format!("{} {address}", s.name()))
            .collect();
        self.screen.say(format!(
            "client {}   director {}   VIP {}",
            service.client, service.director, service.vip
        ));
        self.screen.say(servers.join("   "));
    }

    fn start(&mut self) -> Result<Daemon<'a>> {
        let lab = self.lab;
        self.screen
            .command("director", format!("uvs {}", run_line(lab)));
        let daemon = lab.start_daemon(self.uvs)?;
        self.ipvsadm(&daemon, &self.service.add_service("wrr"))?;
        for (server, weight) in WEIGHTS.into_iter().enumerate() {
            self.ipvsadm(&daemon, &self.service.add_server(server, weight))?;
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
        let url = self.service.url(&format!("{}?rate={RATE}", content.path));
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
        self.ipvsadm(daemon, &self.service.edit_server(drained, 0))?;
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
        let url = self.service.url("/");
        self.screen.command("client", requests_line(&url, REQUESTS));
        let answers = requests(&self.lab.client, &url, REQUESTS)?;
        let shares = share::compare(servers, &answers);
        self.screen.shares(&shares);
        let wrong = shares.iter().filter(|s| !s.is_right());
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
