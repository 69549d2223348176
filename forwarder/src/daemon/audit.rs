//! Every change of the table is told by the log in words, with who asked for it; refused ones too.
//!
//! One change is one line. Of many at once, as `ipvsadm -R` makes them, or of more over a longer time than the log has room for,
//! there is a line every two seconds with how many of each kind there were and the first of them in words: so that nobody who changes
//! much floods the log, and nothing is left out without being counted. The latest lines are kept for whoever asks later.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant as Wall, SystemTime, UNIX_EPOCH};

use uvs_control::author::{Author, printable};
use uvs_control::difference::{self, Edit, Kind};
use uvs_control::protocol::{Answers, Errno, Killed, Refusal, ToldChange, ToldChanges, ask};
use uvs_control::table::Table;

use super::Daemon;
use crate::ipvs::Served;

/// Changes of one step that get a line each.
const FEW: usize = 8;
/// Lines at once; fewer than the log itself lets through from one place.
const BURST: u32 = 48;
/// One more line is allowed every so often, and what waits is told after so long: together no more than the log lets through
/// from one place.
const PERIOD: Duration = Duration::from_secs(2);
/// Lines that are kept.
const KEPT: usize = 500;
/// Characters of what one line says.
const SHOWN: usize = 1000;
/// Characters of what one change says, in a line of several.
const SHOWN_OF_ONE: usize = 200;

/// Who asks for what is carried out now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A process at one of the two sockets.
    Client(Author),
    /// Whoever sent the signal.
    Signal,
    /// The daemon: the time to confirm a reload is over.
    Timeout,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(author) => author.fmt(f),
            Self::Signal => f.write_str("SIGHUP"),
            Self::Timeout => f.write_str("the daemon, as nobody has confirmed the reload"),
        }
    }
}

/// What kind of line a change belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Sort {
    Change(Kind),
    Refused,
}

/// Changes that have no line yet.
struct Waiting {
    since: Wall,
    counts: BTreeMap<Sort, usize>,
    /// The first of them, in words.
    first: Vec<String>,
    /// Who asked for the first.
    by: By,
    /// How often another has asked since.
    others: usize,
    last: By,
}

/// Connections that were killed and have no line yet.
struct Dead {
    since: Wall,
    words: String,
    by: By,
    killed: u64,
    told: u64,
}

/// What is told and kept of changes.
pub(super) struct Audit {
    /// Who asks now.
    by: By,
    tokens: u32,
    filled: Wall,
    waiting: Option<Waiting>,
    dead: Option<Dead>,
    kept: VecDeque<ToldChange>,
    next: u64,
}

impl Audit {
    pub(super) fn new(now: Wall) -> Self {
        Self {
            by: By::Signal,
            tokens: BURST,
            filled: now,
            waiting: None,
            dead: None,
            kept: VecDeque::new(),
            next: 0,
        }
    }

    /// From now on this is who asks.
    pub(super) fn asked_by(&mut self, by: By) {
        self.by = by;
    }

    /// Who asks.
    pub(super) const fn by(&self) -> &By {
        &self.by
    }

    /// A step has changed this.
    fn note(&mut self, edits: &[Edit], now: Wall) {
        let alone = edits.len() <= FEW;
        for edit in edits {
            let sort = Sort::Change(edit.kind());
            self.note_one(sort, || edit.to_string(), alone, now);
        }
    }

    /// A change was refused.
    fn note_refused(&mut self, wanted: &dyn fmt::Display, refusal: &Refusal, now: Wall) {
        let words = || format!("to {wanted}: {}", refusal.message);
        self.note_one(Sort::Refused, words, true, now);
    }

    fn note_one(&mut self, sort: Sort, words: impl FnOnce() -> String, alone: bool, now: Wall) {
        self.refill(now);
        if alone && self.waiting.is_none() && self.tokens > 0 {
            self.tokens -= 1;
            let refused = sort == Sort::Refused;
            let (words, by) = (words(), self.by.to_string());
            self.tell(&words, &by, refused);
            return;
        }
        let by = &self.by;
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            since: now,
            counts: BTreeMap::new(),
            first: Vec::new(),
            by: by.clone(),
            others: 0,
            last: by.clone(),
        });
        *waiting.counts.entry(sort).or_default() += 1;
        if waiting.first.len() < FEW {
            let refused = if sort == Sort::Refused {
                "refused: "
            } else {
                ""
            };
            let words = printable(&words(), SHOWN_OF_ONE);
            waiting.first.push(format!("{refused}{words}"));
        }
        if waiting.last != *by {
            waiting.others += 1;
            waiting.last = by.clone();
        }
    }

    fn refill(&mut self, now: Wall) {
        let periods = now.saturating_duration_since(self.filled).as_secs() / PERIOD.as_secs();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(periods).min(BURST);
        self.filled += PERIOD * periods;
    }

    /// How long until [`Audit::turn`] has something to tell.
    pub(super) fn left(&self, now: Wall) -> Option<Duration> {
        let waiting = self.waiting.as_ref().map(|waiting| waiting.since);
        let since = waiting
            .into_iter()
            .chain(self.dead.as_ref().map(|dead| dead.since));
        Some((since.min()? + PERIOD).saturating_duration_since(now))
    }

    /// Tells what has waited long enough.
    pub(super) fn turn(&mut self, now: Wall) {
        if self.left(now).is_some_and(|left| left.is_zero()) {
            self.flush();
        }
    }

    /// A part of a table's connections was killed: parts of one wish are told together.
    fn note_killed(&mut self, words: &str, killed: Killed, now: Wall) {
        let is_same = |dead: &Dead| dead.words == words && dead.by == self.by;
        if !self.dead.as_ref().is_some_and(is_same) {
            self.flush_dead();
            self.dead = Some(Dead {
                since: now,
                words: words.to_owned(),
                by: self.by.clone(),
                killed: 0,
                told: 0,
            });
        }
        if let Some(dead) = &mut self.dead {
            dead.killed += u64::from(killed.killed);
            dead.told += u64::from(killed.told);
        }
        if killed.next.is_none() {
            self.flush_dead();
        }
    }

    fn flush_dead(&mut self) {
        if let Some(dead) = self.dead.take().filter(|dead| dead.killed > 0) {
            let Dead {
                killed,
                told,
                words,
                by,
                ..
            } = dead;
            let what = format!("{killed} killed of: {words}; the ends of {told} were told");
            self.tell(&what, &by.to_string(), false);
        }
    }

    /// Tells what waits.
    pub(super) fn flush(&mut self) {
        self.flush_dead();
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        let total: usize = waiting.counts.values().sum();
        let mut what = waiting.first.join("; ");
        if total > waiting.first.len() {
            let counted = waiting.counts.iter().map(|(sort, count)| match sort {
                Sort::Change(kind) => kind.counted(*count),
                Sort::Refused => format!("{count} refused"),
            });
            let counted: Vec<String> = counted.collect();
            let more = total - waiting.first.len();
            what = format!("{}: {what}; and {more} more", counted.join(", "));
        }
        let by = match waiting.others {
            0 => waiting.by.to_string(),
            1 => format!("{} and 1 other", waiting.by),
            n => format!("{} and {n} others", waiting.by),
        };
        let refused = waiting.counts.keys().all(|sort| *sort == Sort::Refused);
        self.tell(&what, &by, refused);
    }

    fn tell(&mut self, what: &str, by: &str, refused: bool) {
        let what = printable(what, 2 * SHOWN);
        let prefix = if refused && !what.starts_with("refused: ") {
            "refused: "
        } else {
            ""
        };
        tracing::info!("{prefix}{what}, by {by}");
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        self.kept.push_back(ToldChange {
            number: self.next,
            at_ms: at.map_or(0, |at| u64::try_from(at.as_millis()).unwrap_or(u64::MAX)),
            what,
            by: by.to_owned(),
            refused,
        });
        self.next += 1;
    }
}

impl Daemon {
    /// Carries out what may change the table, and tells what it has changed, or that it was refused.
    pub(super) fn audited<T>(
        &mut self,
        wanted: &dyn fmt::Display,
        carry_out: impl FnOnce(&mut Self) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let before = self.table.clone();
        let outcome = carry_out(self);
        match &outcome {
            Ok(_) => self.note_changes(&before),
            Err(refusal) => self.note_refused(wanted, refusal),
        }
        outcome
    }

    /// Tells what the table has become.
    pub(super) fn note_changes(&mut self, before: &Table) {
        let edits = difference::of_tables(before, &self.table);
        self.audit.note(&edits, Wall::now());
    }

    /// Tells that somebody was refused something.
    pub(super) fn note_refused(&mut self, wanted: &dyn fmt::Display, refusal: &Refusal) {
        self.audit.note_refused(wanted, refusal, Wall::now());
    }

    /// Tells that connections were killed.
    pub(super) fn note_killed(&mut self, words: &str, killed: Killed) {
        self.audit.note_killed(words, killed, Wall::now());
    }

    /// Tells something else that somebody has had done.
    pub(super) fn note_done(&mut self, what: &str) {
        let by = self.audit.by.to_string();
        self.audit.flush();
        self.audit.tell(what, &by, false);
    }
}

impl Served for Daemon {
    fn asked_by(&mut self, author: &Author) {
        self.audit.asked_by(By::Client(author.clone()));
    }

    fn forbidden(&mut self, wanted: &str) {
        let message = "that is for root and the daemon's user".to_owned();
        let errno = Errno::Permission;
        self.note_refused(&wanted, &Refusal { errno, message });
    }
}

impl Answers<ask::ListChanges> for Daemon {
    fn answer(&mut self, ask::ListChanges(from): ask::ListChanges) -> Result<ToldChanges, Refusal> {
        self.audit.flush();
        let kept = self.audit.kept.iter();
        Ok(ToldChanges {
            changes: kept.filter(|c| c.number >= from).cloned().collect(),
            next: self.audit.next,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_control::difference::{Place, Thing};
    use uvs_control::peer::Peer;

    fn edit(n: usize) -> Edit {
        Edit {
            place: Place {
                what: Thing::Sysctl,
                service: None,
                server: None,
                field: Some(format!("s{n}")),
            },
            before: Some("0".to_owned()),
            after: Some("1".to_owned()),
        }
    }

    fn by(pid: i32) -> By {
        let peer = Peer { pid, uid: 0 };
        By::Client(Author {
            peer,
            command: "ipvsadm -R".into(),
        })
    }

    fn lines(audit: &Audit) -> Vec<String> {
        let kept = audit.kept.iter();
        kept.map(|told| format!("{}, by {}", told.what, told.by))
            .collect()
    }

    #[test]
    fn few_changes_are_a_line_each_and_many_are_one() {
        let start = Wall::now();
        let mut audit = Audit::new(start);
        audit.asked_by(by(7));
        audit.note(&[edit(1), edit(2)], start);
        assert_eq!(
            lines(&audit),
            [
                "net.ipv4.vs.s1 from 0 to 1, by uid 0 pid 7 (ipvsadm -R)",
                "net.ipv4.vs.s2 from 0 to 1, by uid 0 pid 7 (ipvsadm -R)"
            ]
        );
        let many: Vec<Edit> = (0..500).map(edit).collect();
        for _ in 0..20 {
            audit.note(&many, start);
        }
        assert_eq!(lines(&audit).len(), 2, "it waits for more of them");
        assert_eq!(audit.left(start), Some(PERIOD));
        audit.turn(start + PERIOD);
        let all = lines(&audit);
        assert_eq!(all.len(), 3);
        let line = &all[2];
        assert!(
            line.starts_with("10000 sysctls changed: net.ipv4.vs.s0 from 0 to 1; net.ipv4.vs.s1"),
            "{line}"
        );
        assert!(
            line.ends_with("; and 9992 more, by uid 0 pid 7 (ipvsadm -R)"),
            "{line}"
        );
        assert_eq!(audit.left(start), None);
    }

    #[test]
    fn who_changes_all_the_time_gets_a_line_from_time_to_time() {
        let start = Wall::now();
        let mut audit = Audit::new(start);
        for n in 0..1000 {
            audit.asked_by(by(n));
            let now = start + Duration::from_millis(u64::try_from(n).expect("small"));
            audit.note(&[edit(1)], now);
            audit.turn(now);
        }
        audit.flush();
        let all = lines(&audit);
        assert_eq!(all.len(), BURST as usize + 1);
        let last = &all[BURST as usize];
        assert!(last.starts_with("952 sysctls changed: "), "{last}");
        assert!(
            last.ends_with("by uid 0 pid 48 (ipvsadm -R) and 951 others"),
            "{last}"
        );
        audit.note(&[edit(9)], start + Duration::from_secs(3));
        assert_eq!(
            lines(&audit).len(),
            BURST as usize + 2,
            "there is room again"
        );
    }

    #[test]
    fn what_is_refused_is_told_with_why_and_on_one_line() {
        let start = Wall::now();
        let mut audit = Audit::new(start);
        audit.asked_by(By::Signal);
        let refusal = Refusal {
            errno: Errno::Exists,
            message: "it is\nthere".to_owned(),
        };
        audit.note_refused(&"add the service \x1b[2J", &refusal, start);
        let told = &audit.kept[0];
        assert!(told.refused);
        assert_eq!(told.what, "to add the service \\u{1b}[2J: it is\\u{a}there");
    }

    #[test]
    fn the_latest_are_kept() {
        let start = Wall::now();
        let mut audit = Audit::new(start);
        for n in 0..KEPT + 10 {
            audit.tell(&n.to_string(), "me", false);
        }
        assert_eq!(audit.kept.len(), KEPT);
        let first = audit.kept.front().map(|told| told.number);
        assert_eq!(first, Some(10));
    }
}
