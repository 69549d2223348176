//! `uvs weight SERVER N` and `uvs undrain SERVER`: a real server's weight in every service that has it, or in one, as one
//! step. The opposite of the latter is `uvs drain`.

use std::process::ExitCode;

use serde::Serialize;
use uvs_control::protocol::Change;
use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;

use super::drain::{Meant, Place, meant};
use super::output::{Format, Shown};
use super::{daemon, output};

/// Which server, of which services, and its weight.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
    /// The weight, from 0 to 2147483647; 0 sends no new connections to it, as `uvs drain` does
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(..=2_147_483_647))]
    weight: u32,
    #[command(flatten)]
    shown: Shown,
}

/// Which server, of which services.
#[derive(clap::Args)]
pub(crate) struct UndrainArgs {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    shown: Shown,
}

#[derive(clap::Args)]
struct Which {
    /// The real server; without a port, on every port
    #[arg(value_name = "ADDRESS[:PORT]")]
    server: Place,
    /// Only in the service of this VIP
    #[arg(long, value_name = "VIP[:PORT]")]
    service: Option<Place>,
}

/// A weight that was set.
#[derive(Serialize)]
struct Set {
    service: ServiceKey,
    server: Endpoint,
    before: u32,
    after: u32,
}

/// Sets it.
pub(crate) fn main(args: &Args) -> ExitCode {
    let weight = args.weight;
    let set = |(key, server, _): &Meant| Change::SetWeight(*key, server.endpoint, weight);
    done(change(&args.which, &args.shown, set))
}

/// Gives it back.
pub(crate) fn undrain(args: &UndrainArgs) -> ExitCode {
    let back = |(key, server, _): &Meant| Change::Undrain(*key, server.endpoint);
    done(change(&args.which, &args.shown, back))
}

fn done(outcome: Result<ExitCode, ExitCode>) -> ExitCode {
    match outcome {
        Ok(code) | Err(code) => code,
    }
}

fn change(
    which: &Which,
    shown: &Shown,
    change: impl Fn(&Meant) -> Change,
) -> Result<ExitCode, ExitCode> {
    let before = meant(which.server, which.service)?;
    daemon::together(before.iter().map(change).collect())?;
    let after = meant(which.server, which.service)?;
    let weight = |key: ServiceKey, at: Endpoint| {
        let mut now = after.iter();
        now.find(|(k, server, _)| *k == key && server.endpoint == at)
            .map(|(_, server, _)| server.weight)
    };
    let set = before.iter().filter_map(|(key, server, _)| {
        Some(Set {
            service: *key,
            server: server.endpoint,
            before: server.weight,
            after: weight(*key, server.endpoint)?,
        })
    });
    let set: Vec<Set> = set.collect();
    Ok(output::print(&match shown.format() {
        Format::Json => output::json(&set),
        Format::Table => set.iter().map(line).collect(),
    }))
}

fn line(set: &Set) -> String {
    let Set {
        service,
        server,
        before,
        after,
    } = set;
    format!("{service}: server {server}: weight {before} -> {after}\n")
}
