//! ipvsadm 1.31: its grammar, its output and its exit codes, spoken to a UVS daemon.
//!
//! Strict, so that scripts written for ipvsadm find no difference. UVS adds `--fullnat` and `--laddr`
//! and refuses what it does not have. The words are taken apart in `popt`, understood in `parse` and
//! `set`, checked in `check` and answered here; nothing opens a file or a socket of its own, so that
//! tests run whole sessions against a table in memory.

mod check;
mod connections;
mod format;
mod line;
mod list;
mod messages;
pub mod names;
mod options;
mod order;
mod parse;
mod popt;
mod restore;
mod save;
mod set;
mod stop;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeSet;
use std::io::{BufRead, Write};

use uvs_control::client::{Asking, CallError, Daemon};
use uvs_control::protocol::{Change, Question, Services, SyncStatus, ask};
use uvs_core::flow::Addr;
use uvs_core::service::ServiceKey;

use self::format::Style;
use self::line::Line;
use self::names::Names;
use self::options::{Kind, Verb};
use self::parse::{Action, parse};
pub use self::save::server_words;
use self::stop::Stop;

/// What a session reads from and writes to.
pub struct Io<'a> {
    /// The rules of `-R`.
    pub stdin: &'a mut dyn BufRead,
    /// Listings.
    pub stdout: &'a mut dyn Write,
    /// One line an error.
    pub stderr: &'a mut dyn Write,
    /// Whether a person reads stderr, who is told what ipvsadm has no words for. Programs get what
    /// ipvsadm says and nothing else.
    pub interactive: bool,
    /// Host and port names.
    pub names: &'a dyn Names,
}

/// Runs one command line, given without the program's name, and returns its exit code.
pub fn run(words: &[String], daemon: &mut dyn Daemon, io: &mut Io<'_>) -> u8 {
    let mut session = Session { daemon, io };
    let result = if words.is_empty() {
        session.act(Line::list())
    } else {
        session.line(words, false)
    };
    let result = result.map_or_else(|stop| session.report(stop).code, |()| 0);
    match session.io.stdout.flush() {
        Ok(()) => result,
        Err(error) => session.report(error.into()).code,
    }
}

struct Session<'s, 'io> {
    daemon: &'s mut dyn Daemon,
    io: &'s mut Io<'io>,
}

impl<'io> Session<'_, 'io> {
    fn line(&mut self, words: &[String], restoring: bool) -> Result<(), Stop> {
        match parse(words, self.io.names)? {
            Action::Help => {
                write!(self.io.stdout, "{}\n{}", messages::VERSION, messages::HELP)?;
                Err(Stop::done())
            }
            Action::Version => {
                writeln!(self.io.stdout, "{}", messages::VERSION)?;
                Err(Stop::done())
            }
            Action::Run(line) if restoring && line.verb == Verb::Restore => Err(Stop::hint()),
            Action::Run(line) => self.act(*line),
        }
    }

    fn act(&mut self, line: Line) -> Result<(), Stop> {
        let verb = line.verb;
        let change = match verb {
            Verb::AddService
            | Verb::EditService
            | Verb::DeleteService
            | Verb::Clear
            | Verb::AddServer
            | Verb::EditServer
            | Verb::DeleteServer
            | Verb::Set => line.change()?,
            Verb::Zero => return self.ask(verb, ask::Zero(line.service)),
            Verb::List => return self.list(&line),
            Verb::Save => return self.save(&line),
            Verb::Restore => return self.restore(),
            Verb::StartDaemon => return self.ask(verb, ask::StartSync(line.sync)),
            Verb::StopDaemon => return self.ask(verb, ask::StopSync(line.sync.role)),
        };
        let Some(change) = change else {
            return Ok(());
        };
        let made = self.daemon.change(change.clone());
        made.map_err(|error| refused(verb, Some(&change), error))?;
        self.remark(&change);
        self.remark_absent(&[&change]);
        Ok(())
    }

    fn save(&mut self, line: &Line) -> Result<(), Stop> {
        let services = self.services(line)?.services;
        save::rules(services, &self.style(line), self.io.stdout)
    }

    fn list(&mut self, line: &Line) -> Result<(), Stop> {
        if line.given.has(Kind::Connection) {
            return self.list_connections(line);
        }
        if line.given.has(Kind::Timeout) {
            return self.list_timeouts();
        }
        if line.given.has(Kind::Daemon) {
            return self.list_sync();
        }
        let Services {
            table_size,
            services,
        } = self.services(line)?;
        if line.service.is_none() {
            writeln!(
                self.io.stdout,
                "IP Virtual Server version 1.2.1 (size={table_size})"
            )?;
        }
        list::services(services, line.given, &self.style(line), self.io.stdout)
    }

    fn services(&mut self, line: &Line) -> Result<Services, Stop> {
        self.ask(line.verb, ask::ListServices(line.service))
    }

    fn list_timeouts(&mut self) -> Result<(), Stop> {
        let t = self.ask(Verb::List, ask::GetTimeouts)?;
        let line = format!(
            "Timeout (tcp tcpfin udp): {} {} {}",
            t.tcp, t.tcp_fin, t.udp
        );
        Ok(writeln!(self.io.stdout, "{line}")?)
    }

    fn list_sync(&mut self) -> Result<(), Stop> {
        for SyncStatus { daemon: d, .. } in self.ask(Verb::List, ask::ListSync)? {
            writeln!(
                self.io.stdout,
                "{} sync daemon (mcast={}, syncid={}, maxlen={}, group={}, port={}, ttl={})",
                d.role, d.interface, d.syncid, d.maxlen, d.group, d.port, d.ttl
            )?;
        }
        Ok(())
    }

    fn list_connections(&mut self, line: &Line) -> Result<(), Stop> {
        let style = self.style(line);
        let mut listing = connections::Listing::new(line.given.has(Kind::PersistentConn));
        let (daemon, out) = (&mut *self.daemon, &mut *self.io.stdout);
        let listed = daemon.ask_in_parts(ask::ListConnections, |part| {
            listing.print(&part, &style, out)
        });
        listed.map_err(|error| refused(Verb::List, None, error))?
    }

    fn style(&self, line: &Line) -> Style<'io> {
        Style {
            numeric: line.given.has(Kind::Numeric),
            names: self.io.names,
        }
    }

    fn ask<Q: Question>(&mut self, verb: Verb, question: Q) -> Result<Q::Answer, Stop> {
        let answer = self.daemon.ask(question);
        answer.map_err(|error| refused(verb, None, error))
    }

    /// Tells a person what to know about a change that was made.
    fn remark(&mut self, change: &Change) {
        let remark = messages::remark(change).filter(|_| self.io.interactive);
        if let Some(remark) = remark.filter(|_| !self.is_marked(change)) {
            let _ = writeln!(self.io.stderr, "uvs: {remark}");
        }
    }

    /// Tells a person which of the services that were added have a VIP that nobody answers for here.
    fn remark_absent(&mut self, made: &[&Change]) {
        let vip = |change: &&Change| match change {
            Change::AddService(spec) => Some(spec.key.vip().addr).filter(|vip| vip.is_v4()),
            _ => None,
        };
        let added: BTreeSet<Addr> = made.iter().filter_map(vip).collect();
        if !self.io.interactive || added.is_empty() {
            return;
        }
        let Ok(info) = self.daemon.ask(ask::Info) else {
            return;
        };
        for vip in info.absent_vips.iter().filter(|vip| added.contains(vip)) {
            let _ = writeln!(self.io.stderr, "uvs: {}", messages::absent(*vip));
        }
    }

    /// Whether packets have the mark of the service that was added.
    fn is_marked(&mut self, change: &Change) -> bool {
        let Change::AddService(spec) = change else {
            return false;
        };
        if matches!(spec.key, ServiceKey::Address { .. }) {
            return false;
        }
        let rules = self.daemon.ask(ask::ListMarks);
        rules.is_ok_and(|rules| rules.iter().any(|r| r.service() == spec.key))
    }

    /// Writes the message, where there is one still to be written.
    fn report(&mut self, stop: Stop) -> Stop {
        if let Some(message) = &stop.message {
            // Where stderr is gone there is nobody left to tell.
            let _ = writeln!(self.io.stderr, "{message}");
        }
        Stop {
            message: None,
            ..stop
        }
    }
}

/// What ends a line that the daemon did not carry out, the change being what it asked for where it was one.
fn refused(verb: Verb, change: Option<&Change>, error: CallError) -> Stop {
    let refusal = match error {
        CallError::Refused(refusal) => refusal,
        unreachable => return stop::usage(unreachable.to_string()),
    };
    let message = messages::refusal(verb, change, refusal);
    if verb == Verb::List || verb == Verb::Save {
        Stop::unlisted(message)
    } else {
        Stop::refused(message)
    }
}
