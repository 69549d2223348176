//! `uvs drain SERVER`: takes a real server out of service without cutting anybody off. Its weight becomes 0
//! in every service that has it, and the command ends when none of its connections is open any more.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use uvs_control::protocol::{Change, ServiceStatus, ask};
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{ServerSpec, ServiceKey};

use super::{daemon, output};

/// How often the daemon is asked what is left.
const PERIOD: Duration = Duration::from_millis(500);

/// Which server, of which services, and how long to wait.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The real server; without a port, on every port
    #[arg(value_name = "ADDRESS[:PORT]")]
    server: Place,
    /// Only in the service of this VIP
    #[arg(long, value_name = "VIP[:PORT]")]
    service: Option<Place>,
    /// Stop waiting after SECONDS; the server continues to drain
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Do not wait
    #[arg(long, conflicts_with = "timeout")]
    no_wait: bool,
}

/// An address, and a port where one is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    addr: Addr,
    port: Option<u16>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_port = |at: SocketAddr| (at.ip(), Some(at.port()));
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let read = text.parse().map(with_port);
        let (addr, port) = read
            .or_else(|_| bare.parse::<IpAddr>().map(|addr| (addr, None)))
            .map_err(|_| "write it as 10.0.0.2, 10.0.0.2:80 or [2001:db8::2]:80".to_owned())?;
        let addr = addr.into();
        Ok(Self { addr, port })
    }
}

impl Place {
    fn matches(&self, at: Endpoint) -> bool {
        self.addr == at.addr && self.port.is_none_or(|port| port == at.port)
    }
}

/// Sets the weights, and waits.
pub(crate) fn main(args: &Args) -> ExitCode {
    match drain(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(code) => code,
    }
}

fn drain(args: &Args) -> Result<(), ExitCode> {
    let found = meant(args.server, args.service)?;
    let quiesced = found
        .iter()
        .map(|(key, server, _)| Change::SetWeight(*key, server.endpoint, 0));
    daemon::together(quiesced.collect())?;
    for (key, server, _) in &found {
        let (at, weight) = (server.endpoint, server.weight);
        output::print(&format!("{key}: server {at}: weight {weight} -> 0\n"));
    }
    if args.no_wait {
        return Ok(());
    }
    wait(args)
}

/// Prints how many connections are open as that changes, until there are none.
fn wait(args: &Args) -> Result<(), ExitCode> {
    let start = Instant::now();
    let mut before = None;
    loop {
        let open: u32 = servers(args.server, args.service)?
            .iter()
            .map(|(_, _, open)| open)
            .sum();
        let seconds = start.elapsed().as_secs();
        if open == 0 {
            output::print(&format!("drained after {seconds} s\n"));
            return Ok(());
        }
        if before.replace(open) != Some(open) {
            output::print(&format!("{open} connections open\n"));
        }
        if args.timeout.is_some_and(|limit| seconds >= limit) {
            eprintln!("{open} connections are still open after {seconds} s; they go on");
            return Err(ExitCode::from(super::FAILED));
        }
        thread::sleep(PERIOD);
    }
}

/// A server with its service and its open connections.
pub(super) type Meant = (ServiceKey, ServerSpec, u32);

/// The servers that are meant: one at least.
pub(super) fn meant(server: Place, service: Option<Place>) -> Result<Vec<Meant>, ExitCode> {
    let found = servers(server, service)?;
    if found.is_empty() {
        eprintln!("no service has this real server; `uvs show servers` lists them all");
        return Err(ExitCode::from(super::FAILED));
    }
    Ok(found)
}

fn servers(server: Place, service: Option<Place>) -> Result<Vec<Meant>, ExitCode> {
    let services = daemon::ask(ask::ListServices(None))?.services;
    let wanted = |s: &ServiceStatus| service.is_none_or(|at| at.matches(s.spec.key.vip()));
    let servers = services.into_iter().filter(wanted).flat_map(|service| {
        let key = service.spec.key;
        let servers = service.servers.into_iter();
        servers.map(move |server| (key, server.spec, server.numbers.open))
    });
    Ok(servers
        .filter(|(_, found, _)| server.matches(found.endpoint))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_an_address_with_or_without_a_port() {
        let v4 = Addr::v4([10, 0, 0, 2]);
        let read = |text: &str| text.parse::<Place>().map(|p| (p.addr, p.port));
        assert_eq!(read("10.0.0.2"), Ok((v4, None)));
        assert_eq!(read("10.0.0.2:80"), Ok((v4, Some(80))));
        let v6 = "2001:db8::2".parse::<IpAddr>().expect("an address").into();
        assert_eq!(read("[2001:db8::2]:80"), Ok((v6, Some(80))));
        assert_eq!(read("2001:db8::2"), Ok((v6, None)));
        assert!(read("rs1").is_err_and(|e| e.contains("10.0.0.2:80")));
    }
}
