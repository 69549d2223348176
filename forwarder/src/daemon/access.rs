//! Who is kept out by what is not the table's: the files of deny and allow lists, read again where they have
//! changed, and the rules of the host's own firewall.

use uvs_control::config::HostFirewall;
use uvs_control::firewall::DropRule;

use super::Daemon;
use crate::firewall::Outcome;

impl Daemon {
    /// What a file held stays in force where it has become bad or is gone.
    pub(super) fn read_lists_again(&mut self) {
        for change in self.list_files.look_again() {
            let (path, prefixes) = match change {
                Ok(change) => change,
                Err(error) => {
                    tracing::error!("{error}; what this list held before stays in force");
                    continue;
                }
            };
            let file = path.display();
            let entries = prefixes.len();
            let taken = self.change(|table| {
                table.set_list_file(&path, &prefixes);
                Ok(())
            });
            match taken {
                Ok(()) => tracing::info!(%file, entries, "the list has changed and is in force"),
                Err(refusal) => {
                    tracing::error!(%file, "the changed list is not in force: {}", refusal.message);
                }
            }
        }
    }

    /// Takes up what the host's firewall is, before the first packet; `None` = it is not followed.
    pub(super) fn begin_firewall(&mut self, read: Option<Outcome>) {
        let Some(read) = read else { return };
        match read {
            Ok(drop_rules) => {
                self.table.set_drop_rules(drop_rules);
                self.table.follow_firewall();
            }
            Err(error) => tracing::warn!("the host's firewall cannot be followed: {error}"),
        }
    }

    /// Takes up what the host's firewall has become. Where it cannot be read any more, what it was stays.
    pub(super) fn follow_firewall(&mut self) {
        let drop_rules = match self.host_firewall {
            HostFirewall::Ignore => Vec::new(),
            HostFirewall::Follow => match self.firewall.turn() {
                None => return,
                Some(Ok(drop_rules)) => drop_rules,
                Some(Err(error)) => {
                    tracing::warn!("the host's firewall cannot be followed: {error}");
                    return;
                }
            },
        };
        self.set_drop_rules(drop_rules);
    }

    fn set_drop_rules(&mut self, drop_rules: Vec<DropRule>) {
        if self.table.drop_rules() == drop_rules {
            return;
        }
        let taken = self.change(|table| {
            table.set_drop_rules(drop_rules);
            Ok(())
        });
        if let Err(refusal) = taken {
            tracing::error!("the changed firewall is not followed: {}", refusal.message);
        }
    }
}
