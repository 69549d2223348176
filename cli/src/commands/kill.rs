//! `uvs kill`: ends connections by filter, part by part, as fast as their ends may be told.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use uvs_control::protocol::{ClientFilter, Filter, Kill, KillFilter, KillNotice, ask};
use uvs_core::flow;

use super::output::{Format, Shown};
use super::show::{ServerName, ServiceName, client, server, service};
use super::{FAILED, USAGE, daemon, output};

/// How long until more ends may be told than just now.
const PAUSE: Duration = Duration::from_millis(3);

/// Which connections; all that is said must be so.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Of this service: VIP:PORT, after tcp:, udp: or sctp: where several share it; or fwm:MARK
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<ServiceName>,
    /// To this real server: IP or IP:PORT
    #[arg(long, value_name = "SERVER", value_parser = server)]
    server: Option<ServerName>,
    /// From these clients: IP, IP:PORT or SUBNET/BITS
    #[arg(long, value_name = "CLIENT", value_parser = client)]
    client: Option<ClientFilter>,
    /// Of this protocol
    #[arg(long, value_enum)]
    protocol: Option<Protocol>,
    /// In this state, as `uvs show conns` shows it: ESTABLISHED, SYN_RECV, UDP, …
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["service", "server", "client", "protocol", "state"])]
    all: bool,
    /// Tell both ends, whatever the service's on_removal says
    #[arg(long, conflicts_with = "silent")]
    tell: bool,
    /// Tell nobody, whatever the service's on_removal says
    #[arg(long)]
    silent: bool,
    #[command(flatten)]
    shown: Shown,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl From<Protocol> for flow::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        }
    }
}

/// What was ended.
#[derive(Default, Serialize)]
struct Done {
    killed: u64,
    told: u64,
}

/// Ends them, and says how many there were.
pub(crate) fn main(args: &Args) -> ExitCode {
    match kill(args) {
        Ok(done) => output::print(&match args.shown.format() {
            Format::Json => output::json(&done),
            Format::Table => said(&done),
        }),
        Err(code) => code,
    }
}

fn said(done: &Done) -> String {
    let connections = match done.killed {
        1 => "1 connection".to_owned(),
        n => format!("{n} connections"),
    };
    match done.told {
        0 => format!("{connections} ended\n"),
        told => format!("{connections} ended, the ends of {told} were told\n"),
    }
}

fn kill(args: &Args) -> Result<Done, ExitCode> {
    let filter = filter(args)?;
    if filter.is_empty() && !args.all {
        eprintln!(
            "say which connections: --client, --server, --service, --protocol or --state; --all where all are meant"
        );
        return Err(ExitCode::from(USAGE));
    }
    let notice = match (args.tell, args.silent) {
        (true, _) => KillNotice::Tell,
        (_, true) => KillNotice::Silent,
        _ => KillNotice::OnRemoval,
    };
    let (mut done, mut next) = (Done::default(), Some(0));
    while let Some(from) = next {
        let part = daemon::ask(ask::Kill(Kill {
            filter: filter.clone(),
            all: args.all,
            notice,
            from,
        }))?;
        done.killed += u64::from(part.killed);
        done.told += u64::from(part.told);
        next = part.next;
        if next.is_some() && part.told > 0 || next == Some(from) {
            thread::sleep(PAUSE);
        }
    }
    Ok(done)
}

fn filter(args: &Args) -> Result<KillFilter, ExitCode> {
    let service = match &args.service {
        None => None,
        Some(name) => {
            let services = daemon::ask(ask::ListServices(None))?.services;
            let keys: Vec<_> = services.iter().map(|s| s.spec.key).collect();
            Some(name.among(&keys).map_err(|why| {
                eprintln!("{why}");
                ExitCode::from(FAILED)
            })?)
        }
    };
    Ok(KillFilter {
        protocol: args.protocol.map(Into::into),
        state: args.state.as_ref().map(|state| state.to_ascii_uppercase()),
        ends: Filter {
            service,
            server: args.server.map(Into::into),
            client: args.client,
        },
    })
}
