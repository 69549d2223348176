//! `uvs show …`: the daemon's state as columns for people or as JSON for programs, once or again and again.

mod filter;
mod hook;
mod tables;
mod text;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::ValueEnum;
use uvs_control::client::{Asking, CallError, Client, Daemon};
use uvs_control::protocol::{Filter, Find, ServiceStatus, ask, keep_latest};

use self::filter::Wanted;
pub(super) use self::filter::{ServerName, ServiceName, client, server, service};
use self::view::View;
use super::columns::connections::Connection;
use super::{USAGE, daemon, output, units};

/// What, which of it, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to show
    what: What,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
    #[command(flatten)]
    wanted: Wanted,
    /// Show it again every SECONDS seconds, until interrupted
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = units::interval)]
    watch: Option<Duration>,
}

/// What can be shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// Virtual services with their load
    Services,
    /// Real servers with their load
    Servers,
    /// Connections and persistence templates
    Conns,
    /// Packets that were dropped, by reason; wide: with what each means and what to do
    Drops,
    /// Neighbours on the director's interfaces, and the real servers behind them
    Neigh,
    /// Scheduler plugins
    Plugins,
    /// Settings in force that are not services; wide: also sysctls that have their defaults
    Config,
    /// The program in the kernel: where it is, what it forwards, what it gives to user space
    Hook,
    /// The sync daemons, and what they have done
    Sync,
    /// The latest changes of the table, with who made them; refused ones too
    Changes,
    /// The daemon itself
    Info,
}

/// The ways of showing.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The columns that matter
    Table,
    /// All columns
    Wide,
    /// Everything, for programs
    Json,
}

/// Why something cannot be shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    /// The daemon said so, or there is none.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No service is called so, or several are.
    #[error("{0}")]
    Service(String),
}

/// Asks and prints.
pub(crate) fn main(args: &Args) -> ExitCode {
    if let Some(mistake) = args.wanted.misplaced(args.what) {
        eprintln!("{mistake}");
        return ExitCode::from(USAGE);
    }
    let mut client = Client::from_env();
    let first = match look(&mut client, args) {
        Ok(view) => view.render(args.output),
        Err(error) => return failed(&error),
    };
    let Some(interval) = args.watch else {
        return output::print(&first);
    };
    watch(&mut client, args, first, interval)
}

/// Until somebody interrupts, or no longer reads.
fn watch(client: &mut Client, args: &Args, first: String, interval: Duration) -> ExitCode {
    let clear = if std::io::stdout().is_terminal() {
        "\x1b[H\x1b[2J"
    } else {
        ""
    };
    let mut text = Some(first);
    loop {
        if let Some(text) = text.take() {
            let after = if clear.is_empty() { "\n" } else { "" };
            match output::try_print(&format!("{clear}{text}{after}")) {
                Ok(true) => {}
                Ok(false) => return ExitCode::SUCCESS,
                Err(code) => return code,
            }
        }
        sleep(interval);
        // A daemon that is started again is no reason to stop.
        match look(client, args) {
            Ok(view) => text = Some(view.render(args.output)),
            Err(error) => eprintln!("{error}"),
        }
    }
}

fn look(client: &mut impl Daemon, args: &Args) -> Result<View, ShowError> {
    Ok(match args.what {
        What::Services | What::Servers => {
            View::of_services(args.what, services(client, &args.wanted)?)
        }
        What::Conns => View::Connections(connections(client, &args.wanted)?),
        What::Drops => View::Drops(client.ask(ask::Drops)?.into()),
        What::Neigh => View::Neighbours(client.ask(ask::ListNeighbours)?),
        What::Plugins => View::Plugins(client.ask(ask::ListPlugins)?),
        What::Config => View::Settings(client.ask(ask::Settings)?),
        What::Hook => View::Hook(Box::new(client.ask(ask::Hook)?)),
        What::Sync => View::Sync(client.ask(ask::ListSync)?),
        What::Changes => View::Changes(client.ask(ask::ListChanges(0))?.changes),
        What::Info => View::Info(Box::new(client.ask(ask::Info)?)),
    })
}

fn services(client: &mut impl Daemon, wanted: &Wanted) -> Result<Vec<ServiceStatus>, ShowError> {
    let mut services = client.ask(ask::ListServices(None))?.services;
    if let Some(service) = &wanted.service {
        let keys: Vec<_> = services.iter().map(|s| s.spec.key).collect();
        let key = service.among(&keys).map_err(ShowError::Service)?;
        services.retain(|s| s.spec.key == key);
    }
    if let Some(server) = wanted.server {
        for service in &mut services {
            service.servers.retain(|s| server.is(s.spec.endpoint));
        }
    }
    Ok(services)
}

/// Part by part, as the daemon answers no more at a time.
fn connections(client: &mut impl Daemon, wanted: &Wanted) -> Result<Vec<Connection>, ShowError> {
    let service = match &wanted.service {
        Some(_) => services(client, wanted)?.first().map(|s| s.spec.key),
        None => None,
    };
    let filter = Filter {
        service,
        server: wanted.server.map(Into::into),
        client: wanted.client,
    };
    let (mut list, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let find = Find {
            filter: filter.clone(),
            from,
            latest: wanted.latest,
        };
        let found = client.ask(ask::FindConnections(find))?;
        list.extend(found.connections);
        if let Some(most) = wanted.latest {
            keep_latest(&mut list, most);
        }
        next = found.next;
    }
    Ok(list.into_iter().map(Connection::from).collect())
}

fn failed(error: &ShowError) -> ExitCode {
    match error {
        ShowError::Call(error) => daemon::failed(error),
        ShowError::Service(_) => {
            eprintln!("{error}");
            ExitCode::from(super::FAILED)
        }
    }
}
