//! What two states of the table differ in, edit by edit, each of which can be said in words: by the log, by `uvs diff`, by a
//! reload that tells what it undoes. One comparison for all of them, so that they never tell different stories.

mod fields;
mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use uvs_core::flow::Endpoint;
use uvs_core::marks::MarkRule;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::{Sysctls, Timeouts};

use crate::table::Table;
use fields::{server_fields, service_fields};
pub use state::{AccessRow, TableState};

/// What kind of thing an edit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A service, or a setting of it.
    Service,
    /// A real server, or a setting of it.
    Server,
    /// A rule that marks packets.
    Mark,
    /// An entry of a deny or allow list.
    Access,
    /// A time-out.
    Timeout,
    /// A sysctl.
    Sysctl,
    /// Which VIPs are owned.
    OwnVips,
}

/// What an edit is about: two edits of the same place are about the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The kind of thing.
    pub what: Thing,
    /// The service, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceKey>,
    /// The real server, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Endpoint>,
    /// The setting, by its key in the configuration; `None` where the thing itself comes or goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// One thing that is otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// What it is about.
    #[serde(flatten)]
    pub place: Place,
    /// What was there; `None` = nothing.
    pub before: Option<String>,
    /// What is there now; `None` = nothing.
    pub after: Option<String>,
}

impl Edit {
    fn new(place: Place, before: Option<String>, after: Option<String>) -> Self {
        Self {
            place,
            before,
            after,
        }
    }

    /// Whether the thing itself comes, goes or is otherwise, in a word, and what it is: edits of one kind are counted
    /// together.
    pub fn kind(&self) -> Kind {
        let verb = match (&self.before, &self.after) {
            _ if self.place.field.is_some() && !self.is_entry() => Verb::Changed,
            (None, _) => Verb::Added,
            (_, None) => Verb::Removed,
            _ => Verb::Changed,
        };
        Kind {
            what: self.place.what,
            verb,
        }
    }

    /// Of marks and lists the field is what the entry is.
    fn is_entry(&self) -> bool {
        matches!(self.place.what, Thing::Mark | Thing::Access)
    }

    /// As a difference between what runs and a file, which is `before`.
    pub fn as_difference(&self) -> String {
        let place = &self.place;
        let (file, runs) = (self.before.as_deref(), self.after.as_deref());
        let name = self.name();
        if place.field.is_some() && !self.is_entry() {
            let none = "none";
            let (file, runs) = (file.unwrap_or(none), runs.unwrap_or(none));
            return format!("{name}: {file} in the file, {runs} running");
        }
        let which = match (file, runs) {
            (None, _) => "only running",
            _ => "only in the file",
        };
        let about = runs.or(file).unwrap_or_default();
        match about {
            "" => format!("{name}: {which}"),
            about => format!("{name} ({about}): {which}"),
        }
    }

    /// What it is about, in words.
    fn name(&self) -> String {
        let Place {
            what,
            service,
            server,
            field,
        } = &self.place;
        let field = field.as_deref().unwrap_or_default();
        let of_service = service.map_or_else(String::new, |key| key.to_string());
        let of_server = server.map_or_else(String::new, |at| at.to_string());
        match what {
            Thing::Service if field.is_empty() => format!("service {of_service}"),
            Thing::Service => format!("{field} of {of_service}"),
            Thing::Server if field.is_empty() => format!("server {of_server} in {of_service}"),
            Thing::Server => format!("{field} of {of_server} in {of_service}"),
            Thing::Mark => format!("mark {field}"),
            Thing::Access if service.is_none() => format!("{field} for every service"),
            Thing::Access => format!("{field} for {of_service}"),
            Thing::Timeout => format!("time-out {field}"),
            Thing::Sysctl => format!("net.ipv4.vs.{field}"),
            Thing::OwnVips => field.to_owned(),
        }
    }
}

/// As a change, in words.
impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        match self.kind().verb {
            Verb::Changed => {
                let none = "none";
                let (before, after) = (before.unwrap_or(none), after.unwrap_or(none));
                write!(f, "{name} from {before} to {after}")
            }
            Verb::Added => match after.unwrap_or_default() {
                "" => write!(f, "{name} added"),
                about => write!(f, "{name} added ({about})"),
            },
            Verb::Removed => match before.unwrap_or_default() {
                "" => write!(f, "{name} removed"),
                about => write!(f, "{name} removed ({about})"),
            },
        }
    }
}

/// Edits of the same kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// What they are about.
    pub what: Thing,
    /// What has become of it.
    pub verb: Verb,
}

/// What has become of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// It is there now.
    Added,
    /// It is not there any more.
    Removed,
    /// It is otherwise.
    Changed,
}

impl Kind {
    /// So many of them, in words.
    pub fn counted(self, count: usize) -> String {
        let one = match self.what {
            Thing::Service => "service",
            Thing::Server => "server",
            Thing::Mark => "mark rule",
            Thing::Access => "list entry",
            Thing::Timeout => "time-out",
            Thing::Sysctl => "sysctl",
            Thing::OwnVips => "setting of own_vips",
        };
        let noun = match (count, self.what, self.verb) {
            (1, Thing::Service | Thing::Server, Verb::Changed) => format!("{one} setting"),
            (_, Thing::Service | Thing::Server, Verb::Changed) => format!("{one} settings"),
            (1, ..) => one.to_owned(),
            (_, Thing::Access, _) => "list entries".to_owned(),
            (_, Thing::OwnVips, _) => one.to_owned(),
            _ => format!("{one}s"),
        };
        let verb = match self.verb {
            Verb::Added => "added",
            Verb::Removed => "removed",
            Verb::Changed => "changed",
        };
        format!("{count} {noun} {verb}")
    }
}

/// What a table has become. It costs what was changed where one is a copy of the other.
pub fn of_tables(before: &Table, after: &Table) -> Vec<Edit> {
    let mut edits = Vec::new();
    let difference = after.services().since(before.services());
    let gone: Vec<&ServiceSpec> = difference.gone.into_iter().map(AsRef::as_ref).collect();
    let new: Vec<&ServiceSpec> = difference.new.into_iter().map(AsRef::as_ref).collect();
    services(&gone, &new, &mut edits);
    marks(before.marks(), after.marks(), &mut edits);
    if after.lists().differ_from(before.lists()) {
        let rows = |table: &Table| table.lists().rows().into_iter().collect();
        access(&rows(before), &rows(after), &mut edits);
    }
    timeouts(before.timeouts(), after.timeouts(), &mut edits);
    sysctls(before.sysctls(), after.sysctls(), &mut edits);
    own_vips(
        &before.own_vips().to_string(),
        &after.own_vips().to_string(),
        &mut edits,
    );
    edits
}

/// The same of states that were sent, and so have nothing to do with each other.
pub fn of_states(before: &TableState, after: &TableState) -> Vec<Edit> {
    let mut edits = Vec::new();
    let old: Vec<&ServiceSpec> = before.services.iter().collect();
    let new: Vec<&ServiceSpec> = after.services.iter().collect();
    services(&old, &new, &mut edits);
    marks(&before.marks, &after.marks, &mut edits);
    let rows = |state: &TableState| state.access.iter().cloned().collect();
    access(&rows(before), &rows(after), &mut edits);
    timeouts(before.timeouts, after.timeouts, &mut edits);
    sysctls(&before.sysctls, &after.sysctls, &mut edits);
    own_vips(
        &before.own_vips.to_string(),
        &after.own_vips.to_string(),
        &mut edits,
    );
    edits
}

fn services(before: &[&ServiceSpec], after: &[&ServiceSpec], edits: &mut Vec<Edit>) {
    let known: BTreeMap<ServiceKey, &ServiceSpec> = before.iter().map(|s| (s.key, *s)).collect();
    let still: BTreeSet<ServiceKey> = after.iter().map(|s| s.key).collect();
    for service in before.iter().filter(|s| !still.contains(&s.key)) {
        edits.push(Edit::new(
            of_service(service.key),
            Some(described(service)),
            None,
        ));
    }
    for service in after {
        match known.get(&service.key) {
            Some(old) => service_edits(old, service, edits),
            None => {
                let place = of_service(service.key);
                edits.push(Edit::new(place, None, Some(described(service))));
                for server in service.servers.iter().rev() {
                    let place = of_server(service.key, server);
                    edits.push(Edit::new(place, None, Some(server_described(server))));
                }
            }
        }
    }
}

fn service_edits(old: &ServiceSpec, new: &ServiceSpec, edits: &mut Vec<Edit>) {
    let key = new.key;
    let pairs = service_fields(old).into_iter().zip(service_fields(new));
    for ((field, before), (_, after)) in pairs.filter(|(old, new)| old != new) {
        let place = Place {
            field: Some(field.to_owned()),
            ..of_service(key)
        };
        edits.push(Edit::new(place, Some(before), Some(after)));
    }
    let of = |service: &ServiceSpec, at| service.servers.iter().find(|s| s.endpoint == at).copied();
    for server in &old.servers {
        let Some(now) = of(new, server.endpoint) else {
            let place = of_server(key, server);
            edits.push(Edit::new(place, Some(server_described(server)), None));
            continue;
        };
        let pairs = server_fields(server).into_iter().zip(server_fields(&now));
        for ((field, before), (_, after)) in pairs.filter(|(old, new)| old != new) {
            let place = Place {
                field: Some(field.to_owned()),
                ..of_server(key, server)
            };
            edits.push(Edit::new(place, Some(before), Some(after)));
        }
    }
    for server in new.servers.iter().rev() {
        if of(old, server.endpoint).is_none() {
            let place = of_server(key, server);
            edits.push(Edit::new(place, None, Some(server_described(server))));
        }
    }
}

const fn of_service(key: ServiceKey) -> Place {
    Place {
        what: Thing::Service,
        service: Some(key),
        server: None,
        field: None,
    }
}

/// A server's place, or with its field that of a setting.
pub(crate) fn of_server(key: ServiceKey, server: &ServerSpec) -> Place {
    Place {
        what: Thing::Server,
        server: Some(server.endpoint),
        ..of_service(key)
    }
}

/// The edit of a server's weight.
pub(crate) fn weight(key: ServiceKey, server: &ServerSpec, from: u32, to: u32) -> Edit {
    let place = Place {
        field: Some("weight".to_owned()),
        ..of_server(key, server)
    };
    Edit::new(place, Some(from.to_string()), Some(to.to_string()))
}

fn described(service: &ServiceSpec) -> String {
    match service.servers.len() {
        0 => service.scheduler.clone(),
        1 => format!("{}, 1 server", service.scheduler),
        n => format!("{}, {n} servers", service.scheduler),
    }
}

fn server_described(server: &ServerSpec) -> String {
    format!("{}, weight {}", server.mode(), server.weight)
}

const fn setting(what: Thing, field: String) -> Place {
    Place {
        what,
        service: None,
        server: None,
        field: Some(field),
    }
}

fn marks(before: &[MarkRule], after: &[MarkRule], edits: &mut Vec<Edit>) {
    if before == after {
        return;
    }
    let named = |rules: &[MarkRule]| -> BTreeSet<String> {
        let names = rules.iter().map(|r| format!("{} for {}", r.mark, r.to));
        names.collect()
    };
    let (old, new) = (named(before), named(after));
    let there = || Some(String::new());
    for rule in old.difference(&new) {
        edits.push(Edit::new(setting(Thing::Mark, rule.clone()), there(), None));
    }
    for rule in new.difference(&old) {
        edits.push(Edit::new(setting(Thing::Mark, rule.clone()), None, there()));
    }
}

fn access(before: &BTreeSet<AccessRow>, after: &BTreeSet<AccessRow>, edits: &mut Vec<Edit>) {
    let place = |row: &AccessRow| Place {
        service: row.service,
        ..setting(Thing::Access, row.entry.clone())
    };
    let about = |row: &AccessRow| {
        let by = if row.live { "by a command" } else { "" };
        Some(by.to_owned())
    };
    for row in before.difference(after) {
        edits.push(Edit::new(place(row), about(row), None));
    }
    for row in after.difference(before) {
        edits.push(Edit::new(place(row), None, about(row)));
    }
}

fn timeouts(before: Timeouts, after: Timeouts, edits: &mut Vec<Edit>) {
    let all = [
        ("tcp", before.tcp, after.tcp),
        ("tcp_fin", before.tcp_fin, after.tcp_fin),
        ("udp", before.udp, after.udp),
    ];
    for (name, old, new) in all.into_iter().filter(|(_, old, new)| old != new) {
        let place = setting(Thing::Timeout, name.to_owned());
        edits.push(Edit::new(
            place,
            Some(old.to_string()),
            Some(new.to_string()),
        ));
    }
}

fn sysctls(before: &Sysctls, after: &Sysctls, edits: &mut Vec<Edit>) {
    if before == after {
        return;
    }
    for name in Sysctls::NAMES {
        let (old, new) = (before.get(name), after.get(name));
        if old != new {
            edits.push(Edit::new(
                setting(Thing::Sysctl, (*name).to_owned()),
                old,
                new,
            ));
        }
    }
}

fn own_vips(before: &str, after: &str, edits: &mut Vec<Edit>) {
    if before != after {
        let place = setting(Thing::OwnVips, "own_vips".to_owned());
        let (old, new) = (Some(before.to_owned()), Some(after.to_owned()));
        edits.push(Edit::new(place, old, new));
    }
}
