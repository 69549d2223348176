//! `uvs ipvs-run -- COMMAND`: a program that was written for IPVS in the kernel, with the library that carries
//! what it asks to the daemon. Where the library cannot, this says so: the program would speak to the kernel
//! and say only that there is no IPVS.

mod program;
mod traced;

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{FAILED, USAGE};
use uvs_control::client::DEFAULT_SOCKET;
use uvs_ipvs_carried::{SOCKET_VARIABLE, socket_beside};

/// The library's file.
const LIBRARY: &str = "libuvs_ipvs.so";
/// Where it is looked for behind `$UVS_IPVS_LIBRARY` and beside the program.
const DIRECTORIES: [&str; 2] = ["/usr/lib/uvs", "/usr/local/lib/uvs"];
/// What a shell gives for a command that it cannot find.
const NOT_FOUND: u8 = 127;

/// Run a program that speaks to the kernel's IPVS, such as keepalived or ipvsadm, against the daemon
///
/// It is started in this process's place with the library libuvs_ipvs.so preloaded, which carries what it asks of
/// the kernel's IPVS to `uvs run`. By hand:
/// LD_PRELOAD=/usr/lib/uvs/libuvs_ipvs.so UVS_IPVS_SOCKET=/run/uvs/ipvs.sock COMMAND
///
/// With --trace, a program that no library reaches is started beside this process, which stays, takes its system
/// calls to IPVS from the kernel, and carries them.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Carry the program's system calls from outside, without the library: for programs that are linked statically or
    /// with musl, written in Go, or setuid
    #[arg(long, conflicts_with = "library")]
    trace: bool,
    /// The library [default: $UVS_IPVS_LIBRARY, or libuvs_ipvs.so beside uvs, in ../lib/uvs, /usr/lib/uvs or /usr/local/lib/uvs]
    #[arg(long, value_name = "FILE")]
    library: Option<PathBuf>,
    /// The program and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

/// Starts the program in this one's place.
pub(crate) fn main(args: Args) -> ExitCode {
    let refuse = |code, message: String| {
        eprintln!("uvs ipvs-run: {message}");
        ExitCode::from(code)
    };
    let mut words = args.command.into_iter();
    let Some(name) = words.next() else {
        return refuse(USAGE, "no command".to_owned());
    };
    let Some(path) = program::found(&name) else {
        return refuse(NOT_FOUND, format!("{}: no such program", name.display()));
    };
    let control = non_empty("UVS_SOCKET").map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from);
    let socket = socket(&control);
    let mut command = std::process::Command::new(&path);
    command.arg0(name).args(words).env(SOCKET_VARIABLE, &socket);
    if args.trace {
        return match traced::main(command, &socket) {
            Ok(code) => ExitCode::from(code),
            Err(error) => refuse(FAILED, format!("{}: {error:#}", path.display())),
        };
    }
    let library = match library(args.library) {
        Ok(library) => library,
        Err(message) => return refuse(FAILED, message),
    };
    if let Err(unfit) = program::check(&path) {
        return refuse(FAILED, format!("{}: {unfit}", path.display()));
    }
    let preload = preload(&library, env::var_os("LD_PRELOAD"));
    let error = command.env("LD_PRELOAD", preload).exec();
    refuse(FAILED, format!("{}: {error}", path.display()))
}

/// The daemon's socket for these programs, beside its control socket unless the environment says otherwise.
pub(crate) fn socket(control: &Path) -> PathBuf {
    non_empty(SOCKET_VARIABLE).map_or_else(|| socket_beside(control), PathBuf::from)
}

/// The library before others that are preloaded already.
fn preload(library: &Path, others: Option<OsString>) -> OsString {
    let mut all = library.as_os_str().to_owned();
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        all.push(":");
        all.push(others);
    }
    all
}

fn library(given: Option<PathBuf>) -> Result<PathBuf, String> {
    let named = given.or_else(|| non_empty("UVS_IPVS_LIBRARY").map(PathBuf::from));
    let places = named.map_or_else(places, |path| vec![path]);
    let there = places.iter().find(|path| path.is_file());
    let Some(there) = there else {
        let places: Vec<_> = places.iter().map(|p| p.display().to_string()).collect();
        return Err(format!(
            "the library is not there: looked for {}; install it, or name it with --library",
            places.join(", ")
        ));
    };
    // The program may change its directory before it starts others.
    let there = there.canonicalize();
    let there = there.map_err(|e| format!("the library: {e}"))?;
    match there
        .as_os_str()
        .as_bytes()
        .iter()
        .any(|b| b" :".contains(b))
    {
        true => Err(format!(
            "{}: LD_PRELOAD can name no path with a space or a colon; copy the library elsewhere",
            there.display()
        )),
        false => Ok(there),
    }
}

fn places() -> Vec<PathBuf> {
    let own = env::current_exe().and_then(|path| path.canonicalize());
    let beside = own.ok().and_then(|path| Some(path.parent()?.to_owned()));
    let own = beside
        .into_iter()
        .flat_map(|dir| [dir.join(LIBRARY), dir.join("../lib/uvs").join(LIBRARY)]);
    let common = DIRECTORIES.iter().map(|dir| Path::new(dir).join(LIBRARY));
    own.chain(common).collect()
}

fn non_empty(variable: &str) -> Option<OsString> {
    env::var_os(variable).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_preloaded_already_stays() {
        let library = Path::new("/usr/lib/uvs/libuvs_ipvs.so");
        for (others, all) in [
            (None, "/usr/lib/uvs/libuvs_ipvs.so"),
            (Some(""), "/usr/lib/uvs/libuvs_ipvs.so"),
            (Some("a.so:b.so"), "/usr/lib/uvs/libuvs_ipvs.so:a.so:b.so"),
        ] {
            assert_eq!(preload(library, others.map(OsString::from)), all);
        }
    }
}
