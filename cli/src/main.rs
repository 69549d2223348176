//! `uvs`: an L4 load balancer in user space. One binary: the daemon, its command line, the `ipvsadm`
//! applet, the lab and the real server's helper.
#![forbid(unsafe_code)]

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut argv = std::env::args_os();
    let program = argv.next().unwrap_or_default();
    if std::path::Path::new(&program)
        .file_name()
        .is_some_and(|n| n == "ipvsadm")
    {
        return commands::ipvsadm::main(argv.collect());
    }
    // Not through clap, which keeps a leading `--` to itself.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|word| word == "ipvsadm")
    {
        return commands::ipvsadm::main(argv.skip(1).collect());
    }
    commands::main()
}
