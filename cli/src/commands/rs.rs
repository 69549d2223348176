//! `uvs rs up | down | check`: prepares a real server for a forwarding mode, as the LVS tutorial's scripts do.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::Subcommand;
use uvs_doctor::Finding;
use uvs_realserver::{self as rs, Mode, Request, RsError};

use super::{FAILED, USAGE};

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make this host a real server for the VIPs (may be repeated)
    Up(Target),
    /// Restore what `up` found
    Down(Target),
    /// Say what is wrong and which command fixes it; exit 0 if nothing is
    Check(Target),
    /// The process behind uvs-tunl0
    #[command(hide = true)]
    Decap {
        #[arg(long)]
        device: String,
    },
}

#[derive(clap::Args)]
struct Target {
    /// How the director forwards
    #[arg(long, value_enum)]
    mode: Mode,
    /// The virtual IP addresses
    #[arg(long, value_name = "VIP", required = true, value_delimiter = ',', value_parser = parse_vip)]
    vip: Vec<Ipv4Addr>,
    /// NAT: make the director the default gateway
    #[arg(long, value_name = "DIRECTOR", value_parser = parse_ipv4)]
    gateway: Option<Ipv4Addr>,
    /// The devices that face the director; else those by which the VIP's network is reached
    #[arg(long, value_name = "IF", value_delimiter = ',')]
    interface: Vec<String>,
}

/// Runs one of them.
pub(crate) fn main(args: Args) -> ExitCode {
    match args.action {
        Action::Up(target) => with(target, up),
        Action::Down(target) => with(target, |r| rs::down(r).map(|lines| report(&lines))),
        Action::Check(target) => with(target, check),
        Action::Decap { device } => match rs::decap::run(&device) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Whoever started us reads standard output; later on it is /dev/null.
                report(&[error.to_string()]);
                eprintln!("uvs rs decap: {error}");
                ExitCode::from(FAILED)
            }
        },
    }
}

fn with(target: Target, action: impl FnOnce(&Request) -> Result<ExitCode, RsError>) -> ExitCode {
    if target.gateway.is_some() && target.mode != Mode::Nat {
        eprintln!(
            "uvs rs: --gateway belongs to --mode nat: in the other modes replies bypass the director"
        );
        return ExitCode::from(USAGE);
    }
    if target.mode == Mode::Nat && target.interface.len() > 1 {
        eprintln!("uvs rs: --mode nat takes one --interface, that of the default route");
        return ExitCode::from(USAGE);
    }
    let request = Request {
        mode: target.mode,
        vips: target.vip,
        gateway: target.gateway,
        interfaces: target.interface,
    };
    action(&request).unwrap_or_else(|error| {
        eprintln!("uvs rs: {error}");
        ExitCode::from(FAILED)
    })
}

fn up(request: &Request) -> Result<ExitCode, RsError> {
    // Without a gateway NAT has nothing to set, only something to see.
    if request.mode == Mode::Nat && request.gateway.is_none() {
        return check(request);
    }
    let lines = rs::up(request)?;
    if lines.is_empty() {
        return Ok(report(&["already up: nothing to change"]));
    }
    Ok(report(&lines))
}

fn check(request: &Request) -> Result<ExitCode, RsError> {
    let findings: Vec<Finding> = rs::check(request)?.into_iter().map(Finding::from).collect();
    if findings.is_empty() {
        return Ok(report(&["fine: nothing to fix"]));
    }
    report(&findings);
    Ok(ExitCode::from(FAILED))
}

fn report<T: ToString>(lines: &[T]) -> ExitCode {
    let text: String = lines.iter().map(|line| line.to_string() + "\n").collect();
    // A reader that has gone away wants no report.
    let _ = io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn parse_ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| "not an IPv4 address (like 192.168.0.38)".to_owned())
}

fn parse_vip(text: &str) -> Result<Ipv4Addr, String> {
    let vip = parse_ipv4(text)?;
    let unusable =
        vip.is_unspecified() || vip.is_loopback() || vip.is_multicast() || vip.is_broadcast();
    if unusable {
        Err("not an address that a service can have".to_owned())
    } else {
        Ok(vip)
    }
}
