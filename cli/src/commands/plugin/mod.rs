//! `uvs plugin new|check|list|reload`: schedulers of one's own, from an empty directory to a running service.

mod check;
mod list;
mod new;

pub(crate) use self::list::render;

use std::process::ExitCode;

use super::{daemon, output};
use uvs_control::protocol::{Command, Data, PluginReloaded};

/// Scheduler plugins.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Write a project of a scheduler that works, to be changed into another
    New(new::Args),
    /// Try a plugin: does it load, keep to the contract, leak?
    Check(check::Args),
    /// List the loaded plugins with the services that use them, and what else is in the plugin directory
    List(list::Args),
    /// Let new versions in the plugin directory take over; services that fell back try theirs again
    Reload(ReloadArgs),
}

#[derive(clap::Args)]
struct ReloadArgs {
    /// The scheduler's name; all plugins without
    name: Option<String>,
}

pub(crate) fn main(args: &Args) -> ExitCode {
    match &args.action {
        Action::New(args) => new::main(args),
        Action::Check(args) => check::main(args),
        Action::List(args) => list::main(args),
        Action::Reload(args) => reload(args),
    }
}

fn reload(args: &ReloadArgs) -> ExitCode {
    match daemon::ask(Command::ReloadPlugins(args.name.clone())) {
        Ok(Data::PluginsReloaded(done)) if done.is_empty() => {
            output::print("no plugin is loaded; a service that names one loads it\n")
        }
        Ok(Data::PluginsReloaded(done)) => told(&done),
        Ok(_) => daemon::unexpected(),
        Err(code) => code,
    }
}

fn told(done: &[PluginReloaded]) -> ExitCode {
    let lines = done.iter().map(|p| format!("{}: {}\n", p.name, p.what));
    let printed = output::print(&lines.collect::<String>());
    if done.iter().any(|plugin| plugin.refused) {
        return ExitCode::from(super::FAILED);
    }
    printed
}
