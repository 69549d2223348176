//! `uvs export prom-files DIR`: the kernel's `/proc/net/ip_vs` and `ip_vs_stats`, for programs that read
//! those, such as node_exporter with `--path.procfs=DIR`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use uvs_control::protocol::{ServerStatus, ServiceStatus, Services, Traffic, ask};
use uvs_exporter::prom_files::{self, Server};

use super::{FAILED, daemon};

/// What, and where to.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    format: Format,
}

#[derive(Subcommand)]
enum Format {
    /// DIR/net/ip_vs and DIR/net/ip_vs_stats as the kernel's IPVS shows them
    PromFiles {
        /// The directory, made if it is not there
        dir: PathBuf,
        /// Write them again every so many seconds, until interrupted
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
        every: Option<u64>,
    },
}

/// Asks and writes.
pub(crate) fn main(args: &Args) -> ExitCode {
    let Format::PromFiles { dir, every } = &args.format;
    loop {
        match (once(dir), every) {
            (Ok(()), None) => return ExitCode::SUCCESS,
            (Err(code), None) => return code,
            // A daemon that restarts is no reason to stop: the files stay as they were.
            (_, Some(seconds)) => std::thread::sleep(Duration::from_secs(*seconds)),
        }
    }
}

fn once(dir: &Path) -> Result<(), ExitCode> {
    let Services {
        table_size,
        services,
    } = daemon::ask(ask::ListServices(None))?;
    let Traffic { stats, rates } = daemon::ask(ask::Traffic)?;
    let table = services
        .iter()
        .map(|s: &ServiceStatus| (&s.spec, s.servers.iter().map(server).collect()));
    let files = [
        ("ip_vs", prom_files::ip_vs(table_size, table)),
        ("ip_vs_stats", prom_files::ip_vs_stats(&stats, &rates)),
    ];
    let net = dir.join("net");
    let written = fs::create_dir_all(&net).and_then(|()| {
        let mut files = files.iter();
        files.try_for_each(|(name, text)| replace(&net.join(name), text))
    });
    written.map_err(|e| {
        eprintln!("uvs export: {}: {e}", net.display());
        ExitCode::from(FAILED)
    })
}

fn server(s: &ServerStatus) -> Server {
    Server {
        spec: s.spec,
        local: s.local,
        active: s.numbers.active,
        inactive: s.numbers.inactive,
    }
}

/// Readers see the old text or the new, never a part.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(&new, path)
}
