//! `uvs rs up | down | check`: prepares a real server for a forwarding mode, as the LVS tutorial's scripts do.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv6Addr};
use std::process::ExitCode;

use clap::Subcommand;
use uvs_doctor::Finding;
use uvs_realserver::tunnel::Carried;
use uvs_realserver::{self as rs, Family, Mode, Request, RsError};

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
        /// What it is to take out of what
        #[arg(long, value_enum, required = true, value_delimiter = ',')]
        carried: Vec<Carried>,
    },
}

#[derive(clap::Args)]
struct Target {
    /// How the director forwards
    #[arg(long, value_enum)]
    mode: Mode,
    /// The virtual IP addresses
    #[arg(long, value_name = "VIP", required = true, value_delimiter = ',', value_parser = parse_vip)]
    vip: Vec<IpAddr>,
    /// NAT: make the director the default gateway, one for each family of the VIPs
    #[arg(long, value_name = "DIRECTOR", value_delimiter = ',', value_parser = parse_address)]
    gateway: Vec<IpAddr>,
    /// IPIP: the family of the addresses by which the director reaches this server [default: the VIP's]
    #[arg(long, value_enum, value_name = "FAMILY", value_delimiter = ',')]
    outer: Vec<Family>,
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
        Action::Decap { device, carried } => match rs::decap::run(&device, &carried) {
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
    if let Some(what) = misused(&target) {
        eprintln!("uvs rs: {what}");
        return ExitCode::from(USAGE);
    }
    let request = Request {
        mode: target.mode,
        vips: target.vip,
        outer: target.outer,
        gateways: target.gateway,
        interfaces: target.interface,
    };
    action(&request).unwrap_or_else(|error| {
        eprintln!("uvs rs: {error}");
        ExitCode::from(FAILED)
    })
}

/// What does not go together, in words.
fn misused(target: &Target) -> Option<String> {
    let is_nat = target.mode == Mode::Nat;
    if !is_nat && !target.gateway.is_empty() {
        return Some(
            "--gateway belongs to --mode nat: in the other modes replies bypass the director"
                .to_owned(),
        );
    }
    if target.mode != Mode::Ipip && !target.outer.is_empty() {
        return Some(
            "--outer belongs to --mode ipip: the other modes have no outer header".to_owned(),
        );
    }
    if is_nat && target.interface.len() > 1 {
        return Some("--mode nat takes one --interface, that of the default route".to_owned());
    }
    let families: Vec<Family> = target.gateway.iter().copied().map(Family::of).collect();
    for (gateway, family) in target.gateway.iter().zip(&families) {
        if families.iter().filter(|f| *f == family).count() > 1 {
            return Some(format!("--gateway takes one {family} address"));
        }
        if !target.vip.iter().any(|vip| Family::of(*vip) == *family) {
            return Some(format!("--gateway {gateway} is {family}, and no --vip is"));
        }
        if is_link_local(*gateway) && target.interface.is_empty() {
            return Some(format!(
                "--gateway {gateway} is link-local: name its --interface"
            ));
        }
    }
    None
}

fn is_link_local(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

fn up(request: &Request) -> Result<ExitCode, RsError> {
    // Without a gateway NAT has nothing to set, only something to see.
    if request.mode == Mode::Nat && request.gateways.is_empty() {
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

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse()
        .map_err(|_| "not an IP address (like 192.168.0.38 or 2001:db8::38)".to_owned())
}

fn parse_vip(text: &str) -> Result<IpAddr, String> {
    let vip = parse_address(text)?;
    if is_link_local(vip) {
        // On `lo` it would be an address of that link alone.
        return Err("a link-local address cannot be on lo or on a tunnel".to_owned());
    }
    let unusable = vip.is_unspecified() || vip.is_loopback() || vip.is_multicast();
    let unusable = unusable
        || match vip {
            IpAddr::V4(vip) => vip.is_broadcast(),
            IpAddr::V6(vip) => is_mapped(vip),
        };
    if unusable {
        Err("not an address that a service can have".to_owned())
    } else {
        Ok(vip)
    }
}

fn is_mapped(addr: Ipv6Addr) -> bool {
    addr.to_ipv4_mapped().is_some()
}
