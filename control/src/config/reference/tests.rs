//! The words are about the keys that are read, and the file that is made of them is a valid one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use uvs_core::snapshot::Sysctls;

use super::super::{
    confinement, connection_log, hook, metrics, persistence, plugins, schema, server, service, sync,
};
use super::{sample, sysctls, tables};

/// Every table that is read, with its keys.
const READ: &[(&str, &[&str])] = &[
    ("", schema::KEYS),
    ("metrics", metrics::KEYS),
    ("limits", schema::LIMIT_KEYS),
    ("timeouts", schema::TIMEOUT_KEYS),
    ("sysctl", Sysctls::NAMES),
    ("plugins", plugins::KEYS),
    ("confinement", confinement::KEYS),
    ("connection_log", connection_log::KEYS),
    ("hook", hook::KEYS),
    ("sync", sync::ROLES),
    ("sync.master", sync::KEYS),
    ("sync.backup", sync::KEYS),
    ("service", service::KEYS),
    ("service.persistent", persistence::KEYS),
    ("service.server", server::KEYS),
    ("service.server.tunnel", server::TUNNEL_KEYS),
];

fn full(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    }
}

/// The keys that are read, without those that are tables with keys of their own, which have a row only where they may be
/// something else as well.
fn read() -> BTreeSet<String> {
    let keys = READ
        .iter()
        .flat_map(|(path, keys)| keys.iter().map(|key| full(path, key)));
    keys.filter(|key| !READ.iter().any(|(path, _)| path == key))
        .collect()
}

#[test]
fn every_key_that_is_read_has_its_row_and_no_other() {
    let rows = tables()
        .iter()
        .flat_map(|table| table.keys.iter().map(|key| full(table.path, key.name)));
    let sysctls = sysctls().into_iter().map(|s| full("sysctl", s.name));
    let told: BTreeSet<String> = rows.chain(sysctls).collect();
    let unread: Vec<_> = told
        .difference(&read())
        .filter(|key| !READ.iter().any(|(path, _)| path == key))
        .cloned()
        .collect();
    assert_eq!(unread, [""; 0], "rows of keys that are not read");
    let untold: Vec<_> = read().difference(&told).cloned().collect();
    assert_eq!(
        untold, [""; 0],
        "add a row in control/src/config/reference/keys.rs"
    );
}

/// The names that the file sets, in whatever table; of the tables between braces too.
fn set(text: &str) -> BTreeSet<String> {
    let document = toml::de::DeTable::parse(text).expect("TOML");
    let mut found = BTreeSet::new();
    walk("", document.get_ref(), &mut found);
    found
}

fn walk(path: &str, table: &toml::de::DeTable<'_>, found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let name = full(path, key.get_ref());
        let one = [value.get_ref()];
        let many = value.get_ref().as_array();
        let many = many.into_iter().flatten().map(|v| v.get_ref());
        for table in one.into_iter().chain(many).filter_map(|v| v.as_table()) {
            walk(&name, table, found);
        }
        found.insert(name);
    }
}

/// With every setting in force.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting.to_owned(),
        _ => line.to_owned(),
    };
    sample().lines().map(|l| line(l) + "\n").collect()
}

/// The two sync daemons have the same keys, each of which is shown of one of them.
#[test]
fn the_sample_has_every_key() {
    let one = |keys: BTreeSet<String>| -> BTreeSet<String> {
        let keys = keys.into_iter();
        keys.map(|key| key.replace("sync.backup", "sync.master"))
            .collect()
    };
    let shown = one(set(&uncommented()));
    let missing: Vec<_> = one(read()).difference(&shown).cloned().collect();
    assert_eq!(
        missing, [""; 0],
        "add a line in control/src/config/reference/sample.rs"
    );
}

#[test]
fn nothing_in_the_sample_is_in_force() {
    assert_eq!(set(&sample()), BTreeSet::new());
}

#[test]
fn with_all_in_force_it_is_valid() {
    let dir = tempfile::tempdir().expect("a directory");
    for list in ["deny.txt", "allow.txt"] {
        fs::write(dir.path().join(list), "192.0.2.0/24\n").expect("written");
    }
    let text = uncommented().replace("/etc/uvs", &dir.path().display().to_string());
    let known = |settings: &_| crate::plugins::Schedulers::configured(settings, None);
    let config = super::super::parse("uvs.toml", &text, &known);
    let config = config.unwrap_or_else(|e| panic!("{}", e.report(false)));
    assert_eq!(config.services.len(), 6);
}

fn committed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

#[test]
fn the_file_of_the_package_is_what_the_code_says() {
    let file = committed("packaging/uvs.toml");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, sample()).expect("written");
    }
    assert!(
        fs::read_to_string(&file).expect("the file") == sample(),
        "packaging/uvs.toml differs from the code; write it again: \
         UPDATE_DOCS=1 cargo test -p uvs-control reference"
    );
}

#[test]
fn the_manual_names_every_key() {
    let manual = fs::read_to_string(committed("docs/configuration.md")).expect("the manual");
    let named = |table: &super::Table, name: &str| {
        let short = [format!("`{name}`"), format!("`.{name}`")];
        let full = format!("`{}`", full(table.path, name));
        manual.contains(&full) || short.iter().any(|name| manual.contains(name.as_str()))
    };
    for table in tables()
        .iter()
        .filter(|table| !table.header.is_empty() || table.path.is_empty())
    {
        for key in table.keys {
            assert!(
                named(table, key.name),
                "docs/configuration.md lacks {}.{}",
                table.path,
                key.name
            );
        }
    }
}
