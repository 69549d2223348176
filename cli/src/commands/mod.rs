//! The command line: one file a command, each with its `Args` and its `main`.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage or invalid configuration, 3 no daemon answers.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use uvs_core::access::Action;

mod access;
pub(crate) mod check;
mod columns;
mod completions;
mod daemon;
mod diff;
mod doctor;
#[cfg(test)]
mod documented;
mod drain;
pub(crate) mod export;
pub(crate) mod guard;
mod ipvs_run;
pub(crate) mod ipvsadm;
mod kill;
#[cfg(feature = "lab")]
pub(crate) mod lab;
mod latency;
mod man;
mod mark;
mod output;
mod plugin;
mod reload;
pub(crate) mod rs;
pub(crate) mod run;
mod show;
mod sysctl;
mod top;
mod trace;
mod units;
mod upgrade;
mod weight;

/// Refused, or failed.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage, or an invalid configuration.
pub(crate) const USAGE: u8 = 2;
/// No daemon answers on the control socket.
pub(crate) const NO_DAEMON: u8 = 3;

/// Userspace Virtual Server: an L4 load balancer on AF_PACKET, with ipvsadm's commands.
#[derive(Parser)]
#[command(name = "uvs", version = uvs_forwarder::VERSION)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check a configuration file; needs neither root nor a daemon
    Check(check::Args),
    /// Diagnose a director or a real server, and print the command that fixes each finding
    Doctor(doctor::Args),
    /// Show the guard that keeps the kernel silent, or remove it after a crash
    Guard(guard::Args),
    /// Run the load balancer in the foreground
    Run(run::Args),
    /// Run as ipvsadm (also when the program is called `ipvsadm`)
    Ipvsadm(ipvsadm::Args),
    /// Run keepalived, ipvsadm or another program that speaks to the kernel's IPVS, against the daemon
    IpvsRun(ipvs_run::Args),
    /// Prepare this host as a real server
    Rs(rs::Args),
    /// Create, check, list and reload scheduler plugins
    Plugin(plugin::Args),
    /// Write the daemon's state in other programs' formats
    Export(export::Args),
    /// Show in what the running table differs from a configuration file
    Diff(diff::Args),
    /// Make the daemon read its configuration file again, also on trial or only to see what would change
    Reload(reload::Args),
    /// Let the daemon's new release take over from the running one, without an interruption
    Upgrade(upgrade::Args),
    /// Show services, servers, connections, drops or the daemon itself
    Show(show::Args),
    /// Take a real server out of service, and wait until its connections have ended
    Drain(drain::Args),
    /// Give a drained real server its weight back
    Undrain(weight::UndrainArgs),
    /// Set a real server's weight
    Weight(weight::Args),
    /// End connections by client, server, service, protocol or state
    Kill(kill::Args),
    /// Define which packets have a firewall mark, for services of `ipvsadm -f`; without arguments, list the rules
    Mark(mark::Args),
    /// Keep clients out of every service, or of one; without arguments, list the entries
    Deny(access::Args),
    /// Let clients in although a shorter prefix is denied; without arguments, list the entries
    Allow(access::Args),
    /// Watch services, servers and connections, full-screen
    Top(top::Args),
    /// Show how long frames take on their way through the director
    Latency(latency::Args),
    /// Read or set IPVS's sysctls, as sysctl(8) does
    Sysctl(sysctl::Args),
    /// Explain why a packet goes where it goes: a made-up one, captured ones, or live ones
    Trace(trace::Args),
    /// Print what a shell sources to complete this command line
    Completions(completions::Args),
    /// Write the manual pages
    #[command(hide = true)]
    Man(man::Args),
    /// Try it: a lab of network namespaces with a client, a director and three real servers
    #[cfg(feature = "lab")]
    Lab(lab::Args),
}

/// Parses the command line and runs the command.
pub(crate) fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => check::main(&args),
        Command::Doctor(args) => doctor::main(&args),
        Command::Guard(args) => guard::main(&args),
        Command::Run(args) => run::main(args),
        Command::Ipvsadm(args) => ipvsadm::main(args.argv),
        Command::IpvsRun(args) => ipvs_run::main(args),
        Command::Rs(args) => rs::main(args),
        Command::Plugin(args) => plugin::main(&args),
        Command::Export(args) => export::main(&args),
        Command::Diff(args) => diff::main(&args),
        Command::Reload(args) => reload::main(&args),
        Command::Upgrade(args) => upgrade::main(&args),
        Command::Show(args) => show::main(&args),
        Command::Drain(args) => drain::main(&args),
        Command::Undrain(args) => weight::undrain(&args),
        Command::Weight(args) => weight::main(&args),
        Command::Kill(args) => kill::main(&args),
        Command::Mark(args) => mark::main(&args),
        Command::Deny(args) => access::main(Action::Deny, &args),
        Command::Allow(args) => access::main(Action::Allow, &args),
        Command::Top(args) => top::main(&args),
        Command::Latency(args) => latency::main(&args),
        Command::Sysctl(args) => sysctl::main(&args),
        Command::Trace(args) => trace::main(&args),
        Command::Completions(args) => completions::main(&args),
        Command::Man(args) => man::main(&args),
        #[cfg(feature = "lab")]
        Command::Lab(args) => lab::main(args),
    }
}
