//! `uvs check FILE`: everything that is wrong with a configuration, and what most likely is not meant, without root and
//! without a daemon.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use uvs_control::access::{FileError, ListFiles};
use uvs_control::config::{self, Config, ConfigError, Finding};
use uvs_control::plugins::Schedulers;

use super::USAGE;
use super::output::{self, Format, Shown};

/// The file to look at.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The configuration file
    file: PathBuf,
    #[command(flatten)]
    shown: Shown,
}

/// What programs are told of a file.
#[derive(Serialize)]
struct Verdict {
    file: String,
    valid: bool,
    services: usize,
    servers: usize,
    interfaces: Vec<String>,
    errors: Vec<Finding>,
    warnings: Vec<String>,
}

/// Prints one line about a right file, or each mistake with its place.
pub(crate) fn main(args: &Args) -> ExitCode {
    let checked = examine(args);
    if args.shown.format() == Format::Json {
        let verdict = match &checked {
            Ok(config) => Verdict::valid(args, config),
            Err(wrong) => Verdict::invalid(args, wrong.findings()),
        };
        let printed = output::print(&output::json(&verdict));
        return if verdict.valid {
            printed
        } else {
            ExitCode::from(USAGE)
        };
    }
    match checked {
        Ok(config) => {
            let file = args.file.display();
            for warning in warnings(&config) {
                eprintln!("{file}: warning: {warning}");
            }
            output::print(&format!("{file}: {}\n", summary(&config)))
        }
        Err(wrong) => {
            match wrong {
                Wrong::Config(error) => complain(&error),
                Wrong::List(error) => eprintln!("{error}"),
            }
            ExitCode::from(USAGE)
        }
    }
}

/// Why a file is wrong.
enum Wrong {
    /// By itself.
    Config(ConfigError),
    /// By a list that it names.
    List(FileError),
}

impl Wrong {
    fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Config(error) => error.findings(),
            Self::List(error) => vec![Finding::without_place(error.to_string())],
        }
    }
}

fn examine(args: &Args) -> Result<Config, Wrong> {
    let known = |settings: &_| Schedulers::configured(settings, None);
    let config = config::load(&args.file, &known).map_err(Wrong::Config)?;
    ListFiles::load(&config.access).map_err(Wrong::List)?;
    Ok(config)
}

fn warnings(config: &Config) -> Vec<String> {
    const NO_SERVICE: &str =
        "there is no [[service]]: nothing is balanced but what `uvs ipvsadm -A` adds later";
    let none = config.services.is_empty().then(|| NO_SERVICE.to_owned());
    let all = none.into_iter().chain(config.warnings());
    all.chain(config.own_vips_unserved()).collect()
}

impl Verdict {
    fn valid(args: &Args, config: &Config) -> Self {
        Self {
            file: args.file.display().to_string(),
            valid: true,
            services: config.services.len(),
            servers: servers(config),
            interfaces: config.interfaces.clone(),
            errors: Vec::new(),
            warnings: warnings(config),
        }
    }

    fn invalid(args: &Args, errors: Vec<Finding>) -> Self {
        Self {
            errors,
            valid: false,
            ..Self::valid(args, &Config::default())
        }
    }
}

fn servers(config: &Config) -> usize {
    config.services.iter().map(|s| s.servers.len()).sum()
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
    let interfaces = match config.interfaces.as_slice() {
        [] => "no interface".to_owned(),
        names => names.join(", "),
    };
    let services = count(config.services.len(), "service");
    format!(
        "valid: {services} with {} on {interfaces}",
        count(servers(config), "server")
    )
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}
