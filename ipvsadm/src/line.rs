//! One command line: its words become a [`Line`], and that a service or a server.

use uvs_control::protocol::Change;
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{Forwarding, Persistence, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Timeouts;

use super::check;
use super::names::Names;
use super::options::{Kind, Kinds, Opt, Verb};
use super::popt::{TokenError, Tokens};
use super::set;
use super::stop::{Stop, usage};

/// What a command line asks for.
pub(super) enum Action {
    /// `-h`
    Help,
    /// `-v`
    Version,
    /// A command with its options.
    Run(Line),
}

/// A command with its options.
pub(super) struct Line {
    pub(super) verb: Verb,
    pub(super) given: Kinds,
    pub(super) service: Option<ServiceKey>,
    pub(super) scheduler: String,
    pub(super) flags: u32,
    pub(super) persistence: Option<u32>,
    pub(super) mask: u32,
    pub(super) engine: Option<String>,
    pub(super) local: Vec<Addr>,
    pub(super) server: ServerSpec,
    pub(super) timeouts: Timeouts,
}

/// The default of `-s`.
const DEFAULT_SCHEDULER: &str = "wlc";

impl Line {
    fn new(verb: Verb) -> Self {
        Self {
            verb,
            given: Kinds::default(),
            service: None,
            scheduler: String::new(),
            flags: 0,
            persistence: None,
            mask: u32::MAX,
            engine: None,
            local: Vec::new(),
            server: ServerSpec::new(Endpoint::NONE, Forwarding::Dr),
            timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
        }
    }

    /// The command `ipvsadm` without arguments is.
    pub(super) fn list() -> Self {
        Self::new(Verb::List)
    }

    /// What the line changes of the table, where it does.
    pub(super) fn change(&self) -> Result<Option<Change>, Stop> {
        Ok(Some(match self.verb {
            Verb::AddService => Change::AddService(self.service_spec()?),
            Verb::EditService => Change::EditService(self.service_spec()?),
            Verb::DeleteService => Change::DeleteService(self.key()?),
            Verb::Clear => Change::Clear,
            Verb::AddServer => Change::AddServer(self.key()?, self.server_spec()?),
            Verb::EditServer => Change::EditServer(self.key()?, self.server_spec()?),
            Verb::DeleteServer => Change::DeleteServer(self.key()?, self.server.endpoint),
            Verb::Set => Change::SetTimeouts(self.timeouts),
            Verb::List
            | Verb::Zero
            | Verb::Save
            | Verb::Restore
            | Verb::StartDaemon
            | Verb::StopDaemon => return Ok(None),
        }))
    }

    /// The service's key; commands that need one have been refused without.
    pub(super) fn key(&self) -> Result<ServiceKey, Stop> {
        self.service
            .ok_or_else(|| check::missing(Kind::Service, self.verb))
    }

    /// The service as `-A` or `-E` describes it.
    fn service_spec(&self) -> Result<ServiceSpec, Stop> {
        Ok(ServiceSpec {
            flags: self.flags,
            persistence: self.persistence.map(|timeout| Persistence {
                timeout,
                mask: self.mask,
            }),
            engine: self.engine.clone(),
            one_packet: self.given.has(Kind::OnePacket),
            local: self.local.clone(),
            ..ServiceSpec::new(self.key()?, self.scheduler())
        })
    }

    /// The server as `-a` or `-e` describes it. Nobody rewrites the port on the way to a DR or TUN
    /// server, so that it is the service's.
    fn server_spec(&self) -> Result<ServerSpec, Stop> {
        let mut server = self.server;
        if let ServiceKey::Address { port, .. } = self.key()?
            && !server.forwarding.def().maps_port
        {
            server.endpoint.port = port;
        }
        Ok(server)
    }

    fn scheduler(&self) -> &str {
        if self.scheduler.is_empty() {
            DEFAULT_SCHEDULER
        } else {
            &self.scheduler
        }
    }
}

/// Parses a command line, without the program's name.
pub(super) fn parse(words: &[String], names: &dyn Names) -> Result<Action, Stop> {
    let mut tokens = Tokens::new(words);
    let Ok(Some(first)) = tokens.token() else {
        return Err(Stop::hint());
    };
    let verb = match first.opt {
        Opt::Help => return Ok(Action::Help),
        Opt::Version => return Ok(Action::Version),
        other => Verb::of(other).ok_or_else(Stop::hint)?,
    };
    check_daemon_state(verb, first.value)?;
    let mut line = Line::new(verb);
    // Read last, as `-s` may still follow.
    let mut flag_names = "";
    loop {
        match tokens.token() {
            Ok(Some(token)) if is_command(token.opt) => {
                return Err(usage(format!("invalid option `{}'", tokens.word())));
            }
            Ok(Some(token)) => {
                set::option(&mut line, token, names)?;
                if token.opt == Opt::SchedFlags {
                    flag_names = token.value.unwrap_or_default();
                }
            }
            Ok(None) => break,
            Err(error) => return Err(bad_token(&error)),
        }
    }
    let rest = set::arguments(&mut line, &tokens.into_arguments())?;
    if let Some(argument) = rest {
        return Err(usage(format!("unexpected argument {argument}")));
    }
    line.flags = set::sched_flags(flag_names, line.scheduler())?;
    check::line(&line)?;
    Ok(Action::Run(line))
}

fn is_command(opt: Opt) -> bool {
    matches!(opt, Opt::Help | Opt::Version) || Verb::of(opt).is_some()
}

fn bad_token(error: &TokenError<'_>) -> Stop {
    let message = match error {
        TokenError::Unknown(word) => format!("{word}: unknown option"),
        TokenError::MissingValue(word) => format!("{word}: missing argument"),
        TokenError::UnwantedValue(word) => format!("{word}: option does not take an argument"),
    };
    Stop::refused(message)
}

fn check_daemon_state(verb: Verb, state: Option<&str>) -> Result<(), Stop> {
    let known = matches!(state, Some("master" | "backup"));
    match verb {
        Verb::StartDaemon if !known => Err(usage("illegal start-daemon parameter specified")),
        // The misprint is the original's, and it is what scripts see.
        Verb::StopDaemon if !known => Err(usage("illegal start_daemon specified")),
        _ => Ok(()),
    }
}
