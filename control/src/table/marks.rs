//! The rules that mark packets. As nft's would be, they are apart from services: `ipvsadm -C` and `-R` leave
//! them, and one may be there before its service is.

use uvs_core::marks::{Destination, MarkRule};
use uvs_core::service::ServiceKey;

use super::super::protocol::{Errno, Refusal};
use super::{Table, refuse};

impl Table {
    /// The rules, oldest first.
    pub fn marks(&self) -> &[MarkRule] {
        &self.marks
    }

    /// Whether a service is one of a mark that no packet gets.
    pub fn is_unmarked(&self, key: &ServiceKey) -> bool {
        match key {
            ServiceKey::Mark { .. } => !self.marks.iter().any(|r| r.service() == *key),
            ServiceKey::Address { .. } => false,
        }
    }

    /// Marks packets to these destinations: all of them, or none where one is refused.
    pub fn mark(&mut self, mark: u32, to: &[Destination]) -> Result<(), Refusal> {
        if mark == 0 {
            let message = "a firewall mark is above 0".to_owned();
            return Err(refuse(Errno::Invalid, message));
        }
        let before = self.marks.len();
        for &to in to {
            if let Some(known) = self.marks.iter().find(|r| r.to == to) {
                let message = taken(known);
                self.marks.truncate(before);
                return Err(refuse(Errno::Exists, message));
            }
            self.marks.push(MarkRule { mark, to });
        }
        Ok(())
    }

    /// Removes rules of a mark, all of them where none is named; or none where one is not there.
    pub(crate) fn unmark(&mut self, mark: u32, to: &[Destination]) -> Result<(), Refusal> {
        let of_mark = |r: &MarkRule| r.mark == mark;
        if !self.marks.iter().any(of_mark) {
            let message = format!("no rule gives the mark {mark}; `uvs mark` lists those that are");
            return Err(refuse(Errno::NotFound, message));
        }
        let unknown = to.iter().find(|to| {
            let rule = MarkRule { mark, to: **to };
            !self.marks.contains(&rule)
        });
        if let Some(to) = unknown {
            let message = format!(
                "no rule gives {to} the mark {mark}; `uvs mark {mark}` lists those that are"
            );
            return Err(refuse(Errno::NotFound, message));
        }
        self.marks
            .retain(|r| r.mark != mark || !(to.is_empty() || to.contains(&r.to)));
        Ok(())
    }

    /// Replaces all rules, or none where any of them is refused.
    pub fn replace_marks(&mut self, rules: &[MarkRule]) -> Result<(), Refusal> {
        let before = std::mem::take(&mut self.marks);
        for rule in rules {
            if let Err(refusal) = self.mark(rule.mark, &[rule.to]) {
                self.marks = before;
                return Err(refusal);
            }
        }
        Ok(())
    }
}

fn taken(rule: &MarkRule) -> String {
    let MarkRule { mark, to } = rule;
    format!("{to} has the mark {mark} already; to change it: uvs mark --delete {mark} {to}")
}
