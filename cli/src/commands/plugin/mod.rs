//! `uvs plugin new|check|list|reload|retry`: schedulers of one's own, from an empty directory to a running service.

mod check;
mod crates;
mod list;
mod new;

pub(crate) use self::list::render;

use std::process::ExitCode;

use uvs_control::protocol::{PluginReloaded, ask};
use uvs_plugin::host::{CAN_LOAD, NO_PLUGINS};

use super::{daemon, output};

/// Scheduler plugins.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Create a project with a working scheduler to start from
    New(new::Args),
    /// Check a plugin: does it load, honour the contract, leak memory?
    Check(check::Args),
    /// List the loaded plugins with the services that use them, and what else is in the plugin directory
    List(list::Args),
    /// Let new versions in the plugin directory take over; services that fell back try theirs again
    Reload(Named),
    /// End fall-backs: services whose plugin failed, and that wrr serves since, try their plugin again
    Retry(Named),
}

#[derive(clap::Args)]
struct Named {
    /// The scheduler's name; all plugins without
    name: Option<String>,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    if !CAN_LOAD {
        eprintln!("uvs plugin: {NO_PLUGINS}");
        return ExitCode::from(super::FAILED);
    }
    match &args.action {
        Action::New(args) => new::main(args),
        Action::Check(args) => check::main(args),
        Action::List(args) => list::main(args),
        Action::Reload(args) => told(daemon::ask(ask::ReloadPlugins(args.name.clone()))),
        Action::Retry(args) => told(daemon::ask(ask::RetryPlugins(args.name.clone()))),
    }
}

fn told(done: Result<Vec<PluginReloaded>, ExitCode>) -> ExitCode {
    let done = match done {
        Ok(done) => done,
        Err(code) => return code,
    };
    if done.is_empty() {
        return output::print("no plugin is loaded; a service that names one loads it\n");
    }
    let lines = done.iter().map(|p| format!("{}: {}\n", p.name, p.what));
    let printed = output::print(&lines.collect::<String>());
    if done.iter().any(|plugin| plugin.refused) {
        return ExitCode::from(super::FAILED);
    }
    printed
}
