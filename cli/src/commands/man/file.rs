//! uvs.toml(5): the configuration's keys.

use clap_mangen::roff::{Roff, bold, roman};
use uvs_control::config::reference::{self, Table};

use super::{Page, text};

const ABOUT: &[&str] = &[
    "What uvs-run(8) serves, as TOML. Every key is optional, except a service's address and a server's. An empty file is an empty director, to be filled by ipvsadm(8) or keepalived(8).",
    "uvs-check(8) says whether a file is right. uvs-reload(8), or SIGHUP, makes the daemon read its file again: a changed file is applied as one step, and running connections go on; a file with a mistake is refused whole, and every mistake is named with line, column, key and what would be right. interfaces, socket and [limits] hold for the life of the process.",
    "Services of a file and services of ipvsadm or keepalived are two masters of one table: a reload puts the file's in place of all others.",
];

const EXAMPLE: &[&str] = &[
    r#"interfaces = ["eth0"]"#,
    "",
    "[[service]]",
    r#"tcp = "192.168.0.38:80""#,
    r#"scheduler = "wrr""#,
    r#"mode = "dr""#,
    "",
    "[[service.server]]",
    r#"address = "192.168.0.18""#,
    "weight = 3",
    "",
    "[[service.server]]",
    r#"address = "192.168.0.28""#,
    "weight = 1",
];

/// The page.
pub(super) fn page(date: &str) -> Page {
    let mut page = Roff::new();
    text::heading(&mut page, "NAME");
    page.text([roman(
        "uvs.toml - configuration of the userspace virtual server",
    )]);
    text::heading(&mut page, "SYNOPSIS");
    page.text([bold("/etc/uvs/uvs.toml")]);
    text::heading(&mut page, "DESCRIPTION");
    text::paragraphs(&mut page, ABOUT);
    for table in reference::tables() {
        keys(&mut page, table);
    }
    sysctls(&mut page);
    text::heading(&mut page, "EXAMPLES");
    text::verbatim(&mut page, EXAMPLE);
    text::heading(&mut page, "FILES");
    text::items(
        &mut page,
        &[
            (
                "/etc/uvs/uvs.toml",
                "What uvs.service reads. As installed, every key is in it, explained and commented out.",
            ),
            ("/usr/share/doc/uvs/examples", "Files to start from."),
        ],
    );
    let see = [
        "uvs(8)",
        "uvs-run(8)",
        "uvs-check(8)",
        "uvs-reload(8)",
        "ipvsadm(8)",
    ];
    text::see_also(&mut page, &see.map(str::to_owned));
    Page {
        file: "uvs.toml.5".to_owned(),
        text: text::head("uvs.toml", "5", date) + &text::body(&page),
    }
}

fn keys(page: &mut Roff, table: &Table) {
    let title = match (table.header, table.path) {
        ("", "") => "TOP".to_owned(),
        ("", path) => {
            let key = path.rsplit('.').next().unwrap_or(path);
            format!("{key} = {{ … }}")
        }
        (header, _) => header.to_owned(),
    };
    text::heading(page, &title);
    text::paragraphs(page, &[table.about]);
    for key in table.keys {
        let meaning = format!(
            "{} Values: {}. Default: {}.",
            key.about, key.values, key.default
        );
        text::item(page, vec![bold(key.name)], &meaning);
    }
}

fn sysctls(page: &mut Roff) {
    text::heading(page, "[sysctl]");
    let about = "IPVS's sysctls, by their names under net.ipv4.vs. The kernel's own are not touched. uvs-sysctl(8) sets them while the daemon runs.";
    text::paragraphs(page, &[about]);
    for sysctl in reference::sysctls() {
        let values = sysctl.values.replace('`', "");
        let meaning = format!(
            "{} Values: {values}. Default: {}.",
            sysctl.about, sysctl.default
        );
        text::item(page, vec![bold(sysctl.name)], &meaning);
    }
}
