//! `uvs check FILE`: everything that is wrong with a configuration, without root and without a daemon.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use uvs_control::access::ListFiles;
use uvs_control::config::{self, Config, ConfigError};
use uvs_control::plugins::Schedulers;
use uvs_core::flow::Protocol;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};

use super::output;

/// The file to look at.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    file: PathBuf,
}

/// Prints one line about a right file, or each mistake with its place.
pub(crate) fn main(args: &Args) -> ExitCode {
    match config::load(&args.file, &|settings| {
        Schedulers::configured(settings, None)
    }) {
        Ok(config) => {
            let file = args.file.display();
            if let Err(error) = ListFiles::load(&config.access) {
                eprintln!("{error}");
                return ExitCode::from(super::USAGE);
            }
            let unmeasured = config.services.iter().filter_map(unmeasured);
            for warning in unmeasured.chain(config.own_vips_unserved()) {
                eprintln!("{file}: warning: {warning}");
            }
            output::print(&format!("{file}: {}\n", summary(&config)))
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(super::USAGE)
        }
    }
}

/// Prints a configuration's error to standard error, coloured for a terminal (unless `NO_COLOR`).
pub(crate) fn complain(error: &ConfigError) {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    eprint!(
        "{}",
        error.report(wanted && std::io::stderr().is_terminal())
    );
}

fn summary(config: &Config) -> String {
    let servers = config
        .services
        .iter()
        .map(|service| service.servers.len())
        .sum();
    let interfaces = match config.interfaces.as_slice() {
        [] => "no interface".to_owned(),
        names => names.join(", "),
    };
    let services = count(config.services.len(), "service");
    format!(
        "valid: {services} with {} on {interfaces}",
        count(servers, "server")
    )
}

/// What lrt lacks where the director sees no replies, or no handshake.
fn unmeasured(service: &ServiceSpec) -> Option<String> {
    if service.scheduler != "lrt" {
        return None;
    }
    let key = service.key;
    if !matches!(
        key,
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            ..
        }
    ) {
        return Some(format!(
            "{key}: scheduler \"lrt\" measures TCP handshakes; here it acts as wlc"
        ));
    }
    let blind = |s: &&ServerSpec| !s.forwarding.passes_replies();
    let server = service.servers.iter().rev().find(blind)?.endpoint;
    Some(format!(
        "{key}: scheduler \"lrt\" cannot measure server {server}, whose replies do not pass the director \
         (where it can measure none it acts as wlc): use mode = \"nat\" or \"fullnat\""
    ))
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}
