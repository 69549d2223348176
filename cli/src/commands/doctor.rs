//! `uvs doctor`: what is wrong with this director or real server, and which command fixes it.

use std::cell::OnceCell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use uvs_control::client::{CallError, Client};
use uvs_control::config;
use uvs_control::plugins::{PluginSettings, Schedulers};
use uvs_doctor::{
    self as doctor, Check, DoctorError, NagiosState, Report, ServerMode, ServerRequest,
};

use super::output::{Format, Shown};
use super::{FAILED, NO_DAEMON, USAGE, check, output};

/// What to look at, and how to say it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What this host is [default: a director where a daemon answers or --config is given, else a real server]
    #[arg(long, value_enum)]
    role: Option<Role>,
    /// Director: look at what this file asks for; without it, at what the daemon does
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vip", "mode", "gateway", "laddr"])]
    config: Option<PathBuf>,
    /// Real server: the VIPs [default: those that `uvs rs up` noted, or on lo and tunnels]
    #[arg(long, value_name = "VIP", value_delimiter = ',')]
    vip: Vec<IpAddr>,
    /// Real server: how the director forwards [default: as found]
    #[arg(long, value_enum)]
    mode: Option<ServerMode>,
    /// Real server under NAT or FULLNAT: the director's address on this side, one of each family
    #[arg(long, value_name = "DIRECTOR", value_delimiter = ',')]
    gateway: Vec<IpAddr>,
    /// Real server under FULLNAT: the director's local addresses
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    laddr: Vec<IpAddr>,
    /// Run only these checks (docs/doctor.md lists them)
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = parse_check)]
    only: Vec<Check>,
    #[command(flatten)]
    shown: Shown,
    /// Speak as a plugin of Nagios, Icinga and the like: one line with what is counted, then all; exit codes 0 to 3
    #[arg(long, conflicts_with_all = ["json", "output"])]
    nagios: bool,
    /// List the checks instead
    #[arg(long, exclusive = true)]
    list: bool,
    /// Explain what a check looks at, why, and what fixes a finding
    #[arg(long, value_name = "ID", value_parser = parse_check, exclusive = true)]
    explain: Option<Check>,
}

/// What a host can be.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// It runs `uvs run`, or will
    Director,
    /// It is a real server
    Rs,
}

/// Looks and tells. Exit code 1 is for findings of severity error.
pub(crate) fn main(args: &Args) -> ExitCode {
    if args.list {
        return output::print(&list());
    }
    if let Some(check) = args.explain {
        return output::print(&check.explain());
    }
    let report = match examine(args) {
        Ok(report) => report,
        Err(untold) if args.nagios => return untold.nagios(),
        Err(untold) => return complain(&untold.what, untold.code),
    };
    if args.nagios {
        let (state, text) = report.nagios();
        let printed = output::try_print(&text);
        return printed.map_or_else(|code| code, |_| ExitCode::from(state as u8));
    }
    let text = if args.shown.format() == Format::Json {
        report.json().map_err(|e| e.to_string())
    } else {
        Ok(report.text())
    };
    let printed = match text {
        Ok(text) => output::print(&text),
        Err(e) => complain(&e, FAILED),
    };
    if report.has_errors() {
        ExitCode::from(FAILED)
    } else {
        printed
    }
}

fn list() -> String {
    let columns = ["ID", "ON", "FINDING", "MUST BE SO"].map(output::text);
    let row = |c: &Check| {
        let words = [c.id(), c.side().name(), c.severity().name(), c.looks()];
        words.map(str::to_owned).to_vec()
    };
    output::table(&columns, &Check::ALL.iter().map(row).collect::<Vec<_>>())
}

/// Why there is no report.
struct Untold {
    what: String,
    code: u8,
    /// The daemon of a director is not there, which is no less than its end.
    down: bool,
}

impl Untold {
    fn new(what: impl Into<String>, code: u8) -> Self {
        Self {
            what: what.into(),
            code,
            down: false,
        }
    }

    fn nagios(&self) -> ExitCode {
        let state = match self.down {
            true => NagiosState::Critical,
            false => NagiosState::Unknown,
        };
        output::print(&format!("{}\n", state.line(&self.what)));
        ExitCode::from(state as u8)
    }
}

fn examine(args: &Args) -> Result<Report, Untold> {
    let wants_server = !args.vip.is_empty()
        || args.mode.is_some()
        || !args.gateway.is_empty()
        || !args.laddr.is_empty();
    match args.role {
        Some(Role::Director) if wants_server => Err(Untold::new(
            "--vip, --mode, --gateway and --laddr belong to --role rs",
            USAGE,
        )),
        Some(Role::Rs) if args.config.is_some() => {
            Err(Untold::new("--config belongs to --role director", USAGE))
        }
        Some(Role::Rs) => server(args),
        Some(Role::Director) => director(args),
        None if wants_server => server(args),
        None if args.config.is_some() => director(args),
        None => either(args),
    }
}

/// A director where a daemon answers; else a real server where anything shows it.
fn either(args: &Args) -> Result<Report, Untold> {
    let no_director = match doctor::director(&mut Client::from_env(), &args.only) {
        Err(e @ (DoctorError::Daemon(CallError::Absent(_)) | DoctorError::Elsewhere { .. })) => e,
        told => return told.map_err(|e| refuse(&e)),
    };
    let report = request(args).and_then(|r| doctor::server(&r, &args.only));
    report.map_err(|error| match error {
        DoctorError::Untold(_) => Untold::new(format!("{no_director}, or {HOW_ELSE}"), NO_DAEMON),
        other => refuse(&other),
    })
}

/// What helps where neither a daemon nor a VIP was found.
const HOW_ELSE: &str =
    "look at a configuration with --config FILE, or at a real server with --vip VIP --mode MODE";

fn director(args: &Args) -> Result<Report, Untold> {
    let Some(file) = &args.config else {
        let report = doctor::director(&mut Client::from_env(), &args.only);
        return report.map_err(|e| Untold {
            down: matches!(e, DoctorError::Daemon(_)),
            ..refuse(&e)
        });
    };
    let made = OnceCell::new();
    let known = |settings: &PluginSettings| {
        Arc::clone(made.get_or_init(|| Schedulers::configured(settings, None)))
    };
    let config = config::load(file, &known).map_err(|error| {
        check::complain(&error);
        Untold::new(format!("{} is not valid", file.display()), USAGE)
    })?;
    doctor::future_director(file, &config, &args.only).map_err(|e| refuse(&e))
}

fn server(args: &Args) -> Result<Report, Untold> {
    let report = request(args).and_then(|r| doctor::server(&r, &args.only));
    report.map_err(|e| refuse(&e))
}

fn request(args: &Args) -> Result<ServerRequest, DoctorError> {
    Ok(ServerRequest {
        vips: doctor::find_server(args.mode, &args.vip)?,
        gateways: args.gateway.clone(),
        local: args.laddr.clone(),
    })
}

fn refuse(error: &DoctorError) -> Untold {
    let code = match error {
        DoctorError::Daemon(CallError::Absent(_)) => NO_DAEMON,
        DoctorError::Untold(_) => USAGE,
        DoctorError::Daemon(_)
        | DoctorError::Elsewhere { .. }
        | DoctorError::Server(_)
        | DoctorError::Host(_) => FAILED,
    };
    Untold::new(error.to_string(), code)
}

fn complain(what: &str, code: u8) -> ExitCode {
    eprintln!("uvs doctor: {what}");
    ExitCode::from(code)
}

fn parse_check(text: &str) -> Result<Check, String> {
    Check::by_id(text).ok_or_else(|| {
        let near = |c: &&Check| strsim::damerau_levenshtein(c.id(), text);
        let nearest = Check::ALL.iter().min_by_key(near);
        let hint = nearest.map_or_else(String::new, |c| format!("; is it {c}?"));
        format!("there is no such check{hint}")
    })
}
