//! All lists with the origin of each entry, and what the engine gets of them.
//!
//! A copy costs little, and a change builds again the one list that it is of: every `ipvsadm -e` copies the
//! whole desired state, with a hundred thousand prefixes or without.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uvs_core::access::{Access, AccessList, Action, Prefix, Rule};

use super::{AllConfigured, Configured, ListFiles, Scope, name};
use crate::difference::AccessRow;
use crate::protocol::{AccessChange, AccessEntry, Errno, Origin, Refusal};

/// All lists.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    scopes: BTreeMap<Scope, Arc<List>>,
    built: Arc<Access>,
}

/// One of them.
#[derive(Clone, Debug, Default)]
struct List {
    configured: Vec<Rule>,
    files: Vec<Listed>,
    /// What was added by commands: it stays until it is removed or the daemon ends.
    live: BTreeSet<Rule>,
    /// What rules of the host's firewall keep out that are followed.
    firewall: Vec<Arc<[Prefix]>>,
    built: Arc<AccessList>,
}

/// A file's part.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    action: Action,
    path: PathBuf,
    prefixes: Arc<[Prefix]>,
}

impl Listed {
    fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        let action = self.action;
        self.prefixes
            .iter()
            .map(move |&prefix| Rule { prefix, action })
    }
}

impl List {
    fn is_empty(&self) -> bool {
        self.entries().next().is_none() && self.files.is_empty()
    }

    /// Every entry with its origin.
    fn entries(&self) -> impl Iterator<Item = (Rule, Origin)> + '_ {
        let configured = self.configured.iter().map(|r| (*r, Origin::Config));
        let files = self.files.iter().flat_map(|file| {
            let origin = Origin::File(file.path.display().to_string());
            file.rules().map(move |rule| (rule, origin.clone()))
        });
        let live = self.live.iter().map(|r| (*r, Origin::Live));
        let firewall = self.denied_by_firewall().map(|r| (r, Origin::Firewall));
        configured.chain(files).chain(live).chain(firewall)
    }

    fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        let written = self.configured.iter().chain(&self.live).copied();
        let files = self.files.iter().flat_map(Listed::rules);
        written.chain(files).chain(self.denied_by_firewall())
    }

    fn denied_by_firewall(&self) -> impl Iterator<Item = Rule> + '_ {
        let prefixes = self.firewall.iter().flat_map(|prefixes| prefixes.iter());
        prefixes.map(|&prefix| Rule {
            prefix,
            action: Action::Deny,
        })
    }

    /// Where a rule comes from that no command can remove.
    fn fixed(&self, rule: Rule) -> Option<Origin> {
        let fixed = |origin: &Origin| *origin != Origin::Live;
        let mut entries = self.entries();
        entries
            .find(|(r, origin)| *r == rule && fixed(origin))
            .map(|(_, origin)| origin)
    }
}

impl Lists {
    /// What commands have added, as changes that would add it again.
    pub fn added(&self) -> Vec<AccessChange> {
        let of_list = |(service, list): (&Scope, &Arc<List>)| {
            [Action::Allow, Action::Deny].map(|action| AccessChange {
                action,
                service: *service,
                prefixes: {
                    let rules = list.live.iter().filter(|rule| rule.action == action);
                    rules.map(|rule| rule.prefix).collect()
                },
            })
        };
        let changes = self.scopes.iter().flat_map(of_list);
        changes.filter(|c| !c.prefixes.is_empty()).collect()
    }

    /// Whether anybody but the host's firewall may have changed a list since `before`, of which this was made.
    pub fn differ_from(&self, before: &Self) -> bool {
        !Arc::ptr_eq(&self.built, &before.built)
    }

    /// What a configuration or a command says, each with the words for it; not what files have in them.
    pub fn rows(&self) -> Vec<AccessRow> {
        let row = |service: Scope, entry: String, live| AccessRow {
            service,
            entry,
            live,
        };
        let of_list = |(service, list): (&Scope, &Arc<List>)| {
            let rule = |r: &Rule, live| {
                let entry = format!("{} {}", name(r.action), r.prefix);
                row(*service, entry, live)
            };
            let files = list.files.iter().map(|file| {
                let entry = format!("{}_file {}", name(file.action), file.path.display());
                row(*service, entry, false)
            });
            let configured = list.configured.iter().map(|r| rule(r, false));
            let live = list.live.iter().map(|r| rule(r, true));
            configured.chain(files).chain(live).collect::<Vec<_>>()
        };
        self.scopes.iter().flat_map(of_list).collect()
    }

    /// Forgets what commands have added: what is left is the configuration's, and the firewall's.
    pub(crate) fn forget_live(&mut self) {
        let scopes: Vec<Scope> = self.scopes.keys().copied().collect();
        for scope in scopes {
            self.edit(scope, |list| !std::mem::take(&mut list.live).is_empty());
        }
    }

    /// What the engine gets: the same `Arc` while nothing has changed.
    pub fn built(&self) -> Arc<Access> {
        Arc::clone(&self.built)
    }

    /// Makes a configuration and its files the state; what was added by commands stays.
    pub fn configure(&mut self, configured: &AllConfigured, files: &ListFiles) {
        let nothing = Configured::default();
        let scopes: BTreeSet<Scope> = self
            .scopes
            .keys()
            .chain(configured.keys())
            .copied()
            .collect();
        for scope in scopes {
            let wanted = configured.get(&scope).unwrap_or(&nothing);
            let listed = |(action, path): &(Action, PathBuf)| Listed {
                action: *action,
                prefixes: files.prefixes(path),
                path: path.clone(),
            };
            let listed: Vec<Listed> = wanted.files.iter().map(listed).collect();
            self.edit(scope, |list| {
                let same = list.configured == wanted.rules && list.files == listed;
                list.configured.clone_from(&wanted.rules);
                list.files = listed;
                !same
            });
        }
    }

    /// A file has changed.
    pub(crate) fn set_file(&mut self, path: &Path, prefixes: &Arc<[Prefix]>) {
        let scopes: Vec<Scope> = self.scopes.keys().copied().collect();
        for scope in scopes {
            self.edit(scope, |list| {
                let mut changed = false;
                for file in list.files.iter_mut().filter(|f| f.path == path) {
                    changed |= file.prefixes != *prefixes;
                    file.prefixes = Arc::clone(prefixes);
                }
                changed
            });
        }
    }

    /// The host's firewall has changed, or the services that it is followed for.
    pub fn follow(&mut self, mut followed: BTreeMap<Scope, Vec<Arc<[Prefix]>>>) {
        let scopes: BTreeSet<Scope> = self.scopes.keys().chain(followed.keys()).copied().collect();
        for scope in scopes {
            let wanted = followed.remove(&scope).unwrap_or_default();
            let now = self.scopes.get(&scope).map(|list| &list.firewall);
            // Asked at every change of the table: a list is not even copied for that.
            if now.map_or(wanted.is_empty(), |now| *now == wanted) {
                continue;
            }
            self.edit(scope, |list| {
                list.firewall = wanted;
                true
            });
        }
    }

    /// Adds entries, all or none; those that are there already stay.
    pub fn add(&mut self, change: &AccessChange) -> Result<(), Refusal> {
        if let Some(list) = self.scopes.get(&change.service)
            && change.action == Action::Allow
        {
            let denied = |prefix: &Prefix| {
                let action = Action::Deny;
                let rule = Rule {
                    prefix: *prefix,
                    action,
                };
                let live = list.live.contains(&rule).then_some(Origin::Live);
                list.fixed(rule).or(live).map(|origin| (*prefix, origin))
            };
            if let Some((prefix, origin)) = change.prefixes.iter().find_map(denied) {
                return Err(without_effect(prefix, &origin));
            }
        }
        let rules = rules(change);
        self.edit(change.service, |list| {
            let before = list.live.len();
            list.live.extend(rules);
            list.live.len() != before
        });
        Ok(())
    }

    /// Removes entries that were added by commands, all or none.
    pub fn delete(&mut self, change: &AccessChange) -> Result<(), Refusal> {
        let list = self.scopes.get(&change.service);
        for rule in rules(change) {
            if list.is_some_and(|list| list.live.contains(&rule)) {
                continue;
            }
            return Err(match list.and_then(|list| list.fixed(rule)) {
                Some(origin) => not_by_command(rule, &origin),
                None => unknown(rule, change.service),
            });
        }
        self.edit(change.service, |list| {
            let before = list.live.len();
            for rule in rules(change) {
                list.live.remove(&rule);
            }
            list.live.len() != before
        });
        Ok(())
    }

    /// Entries from the one of this number on, at most `most`, and the number of the next.
    pub fn page(&self, from: u32, most: u32) -> (Vec<AccessEntry>, Option<u32>) {
        let all = self.scopes.iter().flat_map(|(service, list)| {
            let entry = |(rule, origin): (Rule, Origin)| AccessEntry {
                service: *service,
                prefix: rule.prefix,
                action: rule.action,
                origin,
            };
            list.entries().map(entry)
        });
        let mut rest = all.skip(from as usize).peekable();
        let page: Vec<AccessEntry> = rest.by_ref().take(most as usize).collect();
        let next = rest.peek().is_some().then(|| from.saturating_add(most));
        (page, next)
    }

    /// Changes a list, and builds it again where `change` says that it has.
    fn edit(&mut self, scope: Scope, change: impl FnOnce(&mut List) -> bool) {
        let known = self.scopes.get(&scope);
        let mut list = known.map_or_else(List::default, |list| List::clone(list));
        if !change(&mut list) {
            return;
        }
        list.built = Arc::new(AccessList::new(list.rules()));
        if list.is_empty() {
            self.scopes.remove(&scope);
        } else {
            self.scopes.insert(scope, Arc::new(list));
        }
        let built = |scope: &Scope| self.scopes.get(scope).map(|list| Arc::clone(&list.built));
        let services = self
            .scopes
            .keys()
            .filter_map(|scope| Some(((*scope)?, built(scope)?)));
        self.built = Arc::new(Access {
            everywhere: built(&None).unwrap_or_default(),
            services: services.collect(),
        });
    }
}

fn rules(change: &AccessChange) -> impl Iterator<Item = Rule> + '_ {
    let action = change.action;
    change
        .prefixes
        .iter()
        .map(move |&prefix| Rule { prefix, action })
}

fn refuse(errno: Errno, message: String) -> Refusal {
    Refusal { errno, message }
}

fn without_effect(prefix: Prefix, origin: &Origin) -> Refusal {
    let message = match origin {
        Origin::Live => format!(
            "{prefix} is denied, which counts before allow; take that back: uvs deny del {prefix}"
        ),
        Origin::Config | Origin::File(_) | Origin::Firewall => {
            format!("{prefix} is denied by {origin}, which counts before allow; take it out there")
        }
    };
    refuse(Errno::Exists, message)
}

fn not_by_command(rule: Rule, origin: &Origin) -> Refusal {
    let then = match origin {
        Origin::File(_) | Origin::Firewall => "take it out there; that is noticed by itself",
        Origin::Config | Origin::Live => "take it out there, then: uvs reload",
    };
    let message = format!("{} comes from {origin}: {then}", rule.prefix);
    refuse(Errno::Invalid, message)
}

fn unknown(rule: Rule, scope: Scope) -> Refusal {
    let list = scope.map_or_else(|| "of every service".to_owned(), |key| format!("of {key}"));
    let command = name(rule.action);
    let message = format!(
        "{} is not on the {command} list {list}; `uvs {command} list` shows what is",
        rule.prefix
    );
    refuse(Errno::NotFound, message)
}
