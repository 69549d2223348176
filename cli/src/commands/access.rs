//! `uvs deny` and `uvs allow`: who is kept out of every service or of one, and who is let in all the same.
//!
//! What these commands add holds until they remove it or the daemon ends; what is to stay is written in the
//! configuration or in a file that it names.

use std::process::ExitCode;

use clap::Subcommand;
use uvs_control::access::prefixes;
use uvs_control::protocol::{AccessChange, AccessEntry, Change, Origin, ask};
use uvs_core::access::{Action, Prefix};
use uvs_core::service::ServiceKey;

use super::output::{Format, table, text};
use super::show::{ServiceName, service};
use super::{FAILED, daemon, output};

/// Prefixes in one request.
const AT_ONCE: usize = 10_000;

/// What is done.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Add prefixes, until the daemon ends
    Add(Entries),
    /// Remove prefixes that were added by `add`
    #[command(visible_aliases = ["delete", "remove"])]
    Del(Entries),
    /// List the entries with their origins
    List(Listing),
}

/// Which entries.
#[derive(clap::Args)]
struct Entries {
    /// ADDRESS, ADDRESS/LENGTH or `all`
    #[arg(required = true, value_name = "PREFIX", value_parser = word)]
    prefixes: Vec<Word>,
    #[command(flatten)]
    of: ListScope,
}

/// Which entries, and how.
#[derive(clap::Args)]
struct Listing {
    #[command(flatten)]
    of: ListScope,
    /// How to list
    #[arg(short, long, value_enum, default_value = "table")]
    output: Format,
}

/// Whose list; without, that of every service.
#[derive(clap::Args)]
#[group(multiple = false)]
struct ListScope {
    /// Only for this service: VIP:PORT, after tcp:, udp: or sctp: where several share it; or fwm:MARK
    #[arg(long, value_name = "SERVICE", value_parser = service)]
    service: Option<ServiceName>,
    /// Only for a TCP service, as in ipvsadm
    #[arg(short = 't', value_name = "VIP:PORT", value_parser = |s: &str| service(&format!("tcp:{s}")))]
    tcp: Option<ServiceName>,
    /// Only for a UDP service
    #[arg(short = 'u', value_name = "VIP:PORT", value_parser = |s: &str| service(&format!("udp:{s}")))]
    udp: Option<ServiceName>,
    /// Only for the service of a firewall mark
    #[arg(short = 'f', value_name = "MARK", value_parser = |s: &str| service(&format!("fwm:{s}")))]
    mark: Option<ServiceName>,
}

/// What a word stands for.
#[derive(Clone, Debug)]
struct Word(Vec<Prefix>);

fn word(text: &str) -> Result<Word, String> {
    prefixes(text).map(Word).map_err(|e| e.to_string())
}

/// Adds, removes or lists.
pub(crate) fn main(action: Action, args: &Args) -> ExitCode {
    let done = match &args.what {
        Some(What::Add(entries)) => change(action, entries, Change::AddAccess),
        Some(What::Del(entries)) => change(action, entries, Change::DeleteAccess),
        Some(What::List(listing)) => list(action, &listing.of, listing.output),
        None => list(action, &ListScope::EVERY, Format::Table),
    };
    done.unwrap_or_else(|code| code)
}

impl ListScope {
    const EVERY: Self = Self {
        service: None,
        tcp: None,
        udp: None,
        mark: None,
    };

    /// The service that is meant, where one is.
    fn key(&self) -> Result<Option<ServiceKey>, ExitCode> {
        let named = [&self.service, &self.tcp, &self.udp, &self.mark];
        let Some(name) = named.into_iter().flatten().next() else {
            return Ok(None);
        };
        let services = daemon::ask(ask::ListServices(None))?.services;
        let keys: Vec<ServiceKey> = services.iter().map(|s| s.spec.key).collect();
        name.among(&keys).map(Some).map_err(|why| {
            eprintln!("{why}");
            ExitCode::from(FAILED)
        })
    }
}

fn change(
    action: Action,
    entries: &Entries,
    change: fn(AccessChange) -> Change,
) -> Result<ExitCode, ExitCode> {
    let service = entries.of.key()?;
    let all: Vec<Prefix> = entries
        .prefixes
        .iter()
        .flat_map(|w| &w.0)
        .copied()
        .collect();
    for part in all.chunks(AT_ONCE) {
        daemon::change(change(AccessChange {
            action,
            service,
            prefixes: part.to_vec(),
        }))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(action: Action, of: &ListScope, format: Format) -> Result<ExitCode, ExitCode> {
    let only = of.key()?;
    let (mut entries, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let page = daemon::ask(ask::ListAccess(from))?;
        entries.extend(page.entries);
        next = page.next;
    }
    entries.retain(|e| e.action == action && (only.is_none() || e.service == only));
    Ok(output::print(&match format {
        Format::Table => as_table(action, &entries),
        Format::Json => format!("{}\n", serde_json::json!(entries)),
    }))
}

fn as_table(action: Action, entries: &[AccessEntry]) -> String {
    let title = match action {
        Action::Deny => "DENIED",
        Action::Allow => "ALLOWED",
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    table(&[text(title), text("SERVICE"), text("ORIGIN")], &rows)
}

fn row(entry: &AccessEntry) -> Vec<String> {
    let service = entry
        .service
        .map_or_else(|| "every".to_owned(), |key| key.to_string());
    let origin = match &entry.origin {
        Origin::Config => "config".to_owned(),
        Origin::File(path) => path.clone(),
        Origin::Live => "live".to_owned(),
        Origin::Firewall => "firewall".to_owned(),
    };
    vec![entry.prefix.to_string(), service, origin]
}
