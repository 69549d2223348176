//! `uvs run`: the daemon in the foreground.

use std::cell::OnceCell;
use std::fmt::Display;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use uvs_control::client::DEFAULT_SOCKET;
use uvs_control::config::{
    self, Config, ConfigError, Confinement, Listen, Metrics, OwnVips, Seccomp, WorkerCount,
};
use uvs_control::plugins::{PluginSettings, Schedulers};
use uvs_control::protocol::HookMode;
use uvs_forwarder::confinement::{self, Wanted};
use uvs_forwarder::daemon::{self, Options, Placement};
use uvs_forwarder::log::Log;
use uvs_forwarder::succession::Predecessor;

use super::{FAILED, USAGE};

/// Run the load balancer until SIGTERM or Ctrl-C; SIGHUP reloads the configuration
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Configuration file (TOML); without it the table starts empty
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to run on; repeat for each. Overrides the configuration's
    #[arg(long = "interface", value_name = "IF")]
    interfaces: Vec<String>,
    /// Answer for this VIP, or `all`, while no interface has it; repeat for each. Overrides the configuration's own_vips [default: none]
    #[arg(long = "own-vip", value_name = "ADDR|all")]
    own_vips: Vec<OwnVips>,
    /// Control socket [default: the configuration's, $UVS_SOCKET, or /run/uvs/control.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where to serve Prometheus metrics, or `off` [default: the configuration's, or 127.0.0.1:9650]
    #[arg(long, value_name = "ADDRESS:PORT")]
    metrics: Option<Listen>,
    /// Directory of scheduler plugins [default: the configuration's, $UVS_PLUGIN_DIR, or /usr/lib/uvs/schedulers]
    #[arg(long, value_name = "DIR")]
    plugin_dir: Option<PathBuf>,
    /// What to give to the kernel: `auto` as much as it can, `tier` (what is established) or `guard` (what is whose)
    /// and nothing less, `off` nothing [default: the configuration's, $UVS_HOOK, or auto]
    #[arg(long, value_name = "auto|tier|guard|off")]
    hook: Option<HookMode>,
    /// How many workers forward, each on a CPU: 1 to 64, or `auto` for one a CPU [default: the configuration's, $UVS_WORKERS, or 1]
    #[arg(long, value_name = "N|auto")]
    workers: Option<WorkerCount>,
    /// What becomes of system calls that no director needs: `on` refuses, counts and logs them, `log` only counts and logs
    /// them, `off` lets them be [default: the configuration's, $UVS_SECCOMP, or on]
    #[arg(long, value_name = "on|log|off")]
    seccomp: Option<Seccomp>,
    /// Log as JSON lines
    #[arg(long)]
    log_json: bool,
}

/// What is said of a daemon that does not run, and its exit code.
type Failure = (String, u8);

/// Runs the daemon. What it says goes through the log, which cannot hold it up; where it is to take over from another,
/// that hears as well why it does not.
pub(crate) fn main(args: Args) -> ExitCode {
    uvs_forwarder::sys::keep_large_apart();
    let text = args.config.as_deref().map(config::text_of);
    // Before the first thread, as that is what it holds for.
    let wanted = confinement(&args, text.as_ref().and_then(|text| text.as_ref().ok()));
    if let Ok(wanted) = &wanted {
        confinement::begin(wanted);
    }
    let log = Log::start(args.log_json);
    confinement::report();
    let predecessor = match Predecessor::from_env() {
        Ok(predecessor) => predecessor.map(Arc::new),
        Err(e) => {
            log.say(&format!("uvs run: the daemon to take over from: {e}"));
            return ExitCode::from(FAILED);
        }
    };
    let failed = |e: anyhow::Error| (format!("uvs run: {}", sentence(&e)), FAILED);
    let options = wanted.and_then(|wanted| {
        let text = text.transpose();
        options(args, text, wanted.hook, (&log, predecessor.clone()))
    });
    match options.and_then(|options| daemon::run(options).map_err(failed)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((why, code)) => {
            log.say(&why);
            if let Some(predecessor) = predecessor {
                predecessor.refuse(&why);
            }
            ExitCode::from(code)
        }
    }
}

/// What is to be given up, by the command line, the file and the environment; and what of it the hook needs first.
fn confinement(args: &Args, text: Option<&String>) -> Result<Wanted, Failure> {
    let early = text.map_or_else(config::Early::default, |text| config::early(text));
    let said = args.seccomp.or(early.confinement.seccomp);
    let hook = args.hook.or(early.hook.mode);
    let usage = |mistake| (mistake, USAGE);
    Ok(Wanted {
        confinement: Confinement {
            drops_capabilities: !early.confinement.keeps_capabilities,
            seccomp: said
                .map_or_else(|| from_env("UVS_SECCOMP"), Ok)
                .map_err(usage)?,
        },
        hook: hook
            .map_or_else(|| from_env("UVS_HOOK"), Ok)
            .map_err(usage)?,
        pins: early.hook.pins,
        succeeds: Predecessor::is_there(),
    })
}

/// What the command line, the file and the environment ask for.
fn options(
    args: Args,
    text: Result<Option<String>, ConfigError>,
    hook: HookMode,
    (log, predecessor): (&Log, Option<Arc<Predecessor>>),
) -> Result<Options, Failure> {
    // What the file names is loaded while it is read, into what the daemon then uses.
    let made = OnceCell::new();
    let known = |settings: &PluginSettings| {
        let make = || Schedulers::configured(settings, args.plugin_dir.as_deref());
        Arc::clone(made.get_or_init(make))
    };
    let parse = |text: Option<String>| match (text, &args.config) {
        (Some(text), Some(file)) => config::parse(&file.display().to_string(), &text, &known),
        _ => Ok(Config::default()),
    };
    let config = match text.and_then(parse) {
        Ok(config) => config,
        Err(e) => {
            let in_colour = predecessor.is_none() && std::io::stderr().is_terminal();
            return Err((e.report(in_colour).trim_end().to_owned(), USAGE));
        }
    };
    let schedulers = known(&config.plugins);
    let interfaces = if args.interfaces.is_empty() {
        config.interfaces.clone()
    } else {
        args.interfaces
    };
    if interfaces.is_empty() {
        let why = "uvs run: no interface to run on: name one with `--interface IF`, or `interfaces = [\"IF\"]` in the configuration";
        return Err((why.to_owned(), USAGE));
    }
    let socket = args
        .socket
        .or_else(|| config.socket.clone())
        .unwrap_or_else(default_socket);
    let ipvs_socket = super::ipvs_run::socket(&socket);
    let metrics = Metrics {
        listen: args.metrics.unwrap_or(config.metrics.listen),
        ..config.metrics
    };
    let count = args.workers.or(config.workers.count);
    let count = count.map_or_else(|| from_env("UVS_WORKERS"), Ok);
    let count = count.map_err(|mistake| (mistake, USAGE))?;
    let workers = Placement {
        count: count.number(),
        cpus: config.workers.cpus.clone(),
        busy_poll: config.workers.busy_poll,
    };
    Ok(Options {
        hook,
        workers,
        metrics,
        file: args.config,
        config,
        own_vips: args.own_vips.into_iter().reduce(OwnVips::and),
        interfaces,
        socket,
        ipvs_socket,
        schedulers,
        log: log.tally(),
        predecessor,
    })
}

/// An error with its causes, without those that it says already.
fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.ends_with(&cause) {
            continue;
        }
        let separator = if said.is_empty() { "" } else { ": " };
        said = said + separator + &cause;
    }
    if error
        .chain()
        .any(|cause| is(cause, rustix::io::Errno::ACCESS))
    {
        said += confinement::hint().unwrap_or_default();
    }
    if error
        .chain()
        .any(|cause| is(cause, rustix::io::Errno::MFILE))
    {
        said += "; this process may open no more: raise its limit (`ulimit -n 1024`, LimitNOFILE= in a unit)";
    }
    said
}

fn is(cause: &(dyn std::error::Error + 'static), errno: rustix::io::Errno) -> bool {
    let cause = cause.downcast_ref::<std::io::Error>();
    cause.and_then(std::io::Error::raw_os_error) == Some(errno.raw_os_error())
}

/// What a variable of the environment says, which nobody need set.
fn from_env<T>(name: &str) -> Result<T, String>
where
    T: FromStr<Err: Display> + Default,
{
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .map_err(|help| format!("uvs run: {name} is \"{text}\": {help}")),
        _ => Ok(T::default()),
    }
}

fn default_socket() -> PathBuf {
    std::env::var_os("UVS_SOCKET")
        .filter(|s| !s.is_empty())
        .map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}
