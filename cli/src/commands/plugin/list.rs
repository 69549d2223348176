//! `uvs plugin list`: name, version, ABI, file, the services that use it and its faults.

use std::path::Path;
use std::process::ExitCode;

use uvs_control::protocol::{PluginStatus, Plugins, ask};

use crate::commands::daemon;
use crate::commands::output::{self, Format, Shown, number, text};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shown: Shown,
}

pub(super) fn main(args: &Args) -> ExitCode {
    let plugins = match daemon::ask(ask::ListPlugins) {
        Ok(plugins) => plugins,
        Err(code) => return code,
    };
    output::print(&match args.shown.format() {
        Format::Table => render(&plugins),
        Format::Json => output::json(&plugins),
    })
}

/// The plugins as columns, and what there is to say of each.
pub(crate) fn render(plugins: &Plugins) -> String {
    let rows: Vec<Vec<String>> = plugins.plugins.iter().map(row).collect();
    let columns = [
        text("NAME"),
        text("VERSION"),
        number("ABI"),
        text("FILE"),
        number("FAULTS"),
        text("SERVICES"),
    ];
    let mut out = output::table(&columns, &rows);
    for plugin in &plugins.plugins {
        for service in &plugin.fallen_back {
            out += &format!("{}: {service} fell back to wrr\n", plugin.name);
        }
    }
    if !plugins.files.is_empty() {
        out += &format!("\nalso in {}:\n", plugins.directory);
    }
    for (file, remark) in &plugins.files {
        out += &format!("{}: {remark}\n", file_name(file));
    }
    out
}

fn row(plugin: &PluginStatus) -> Vec<String> {
    let services: Vec<String> = plugin.services.iter().map(ToString::to_string).collect();
    vec![
        plugin.name.clone(),
        plugin.version.clone(),
        plugin.abi.to_string(),
        plugin.file.clone(),
        faults(&plugin.faults),
        services.join(", "),
    ]
}

/// `3 (panic 1, wrong_index 2)`, or `0`.
fn faults(faults: &[(String, u64)]) -> String {
    let total: u64 = faults.iter().map(|(_, count)| count).sum();
    let some = faults.iter().filter(|(_, count)| *count > 0);
    let reasons: Vec<String> = some
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    match reasons.as_slice() {
        [] => total.to_string(),
        reasons => format!("{total} ({})", reasons.join(", ")),
    }
}

fn file_name(file: &str) -> String {
    let name = Path::new(file).file_name();
    name.map_or_else(
        || file.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::flow::{Addr, Endpoint, Protocol};
    use uvs_core::service::ServiceKey;

    #[test]
    fn a_list_shows_who_uses_what_and_what_is_wrong() {
        let vip = Endpoint::new(Addr::v4([192, 168, 0, 38]), 80);
        let shown = render(&Plugins {
            directory: "/p".to_owned(),
            plugins: vec![PluginStatus {
                name: "hrw".to_owned(),
                version: "0.1.0".to_owned(),
                about: "rendezvous".to_owned(),
                abi: 1,
                file: "/p/libhrw.so".to_owned(),
                services: vec![ServiceKey::address(Protocol::Tcp, vip)],
                faults: vec![("panic".to_owned(), 2), ("failed".to_owned(), 0)],
                fallen_back: vec!["TCP 192.168.0.38:80".to_owned()],
            }],
            files: vec![("/p/x.so".to_owned(), "refused: no".to_owned())],
        });
        assert_eq!(
            shown,
            "NAME  VERSION  ABI  FILE               FAULTS  SERVICES\n\
             hrw   0.1.0      1  /p/libhrw.so  2 (panic 2)  TCP 192.168.0.38:80\n\
             hrw: TCP 192.168.0.38:80 fell back to wrr\n\
             \n\
             also in /p:\n\
             x.so: refused: no\n"
        );
    }
}
