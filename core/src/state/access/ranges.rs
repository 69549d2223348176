//! Nested prefixes of one family, cut into ranges that follow one another.

use super::{Action, Rule};
use crate::narrow;

/// What decides in a range: an action, and the length of the prefix that has it.
pub(super) type Decision = Option<(Action, u8)>;

/// Ranges from which on there is an index.
const INDEXED: usize = 1024;
/// Values of the first 16 bits.
const TOPS: usize = 1 << 16;

/// Where each range begins, in order, and what decides there. The first one begins with the first prefix.
#[derive(Clone, Debug)]
pub(super) struct Ranges<K> {
    starts: Vec<K>,
    decisions: Vec<Decision>,
    /// How many ranges begin before each value of an address's first 16 bits, and how many there are: what is
    /// left to be searched is a handful, however many there are in all.
    index: Vec<u32>,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Self {
            starts: Vec::new(),
            decisions: Vec::new(),
            index: Vec::new(),
        }
    }
}

impl<K: Key> Ranges<K> {
    /// What decides about an address.
    pub(super) fn find(&self, addr: K) -> Decision {
        let (from, to) = match self.index.get(addr.top()..addr.top() + 2) {
            Some(&[from, to]) => (from as usize, to as usize),
            _ => (0, self.starts.len()),
        };
        let after = from + self.starts[from..to].partition_point(|start| *start <= addr);
        self.decisions[..after].last().copied().flatten()
    }

    /// Those of rules of this family.
    pub(super) fn new(mut rules: Vec<Rule>) -> Self {
        // A prefix before those inside it; of two that are alike the denied one last, so that it counts.
        rules.sort_unstable_by_key(|r| (K::ends(r).0, r.prefix.length(), r.action));
        let mut ranges = Self::default();
        let mut around: Vec<(K, Decision)> = Vec::new();
        for rule in rules {
            let (first, last) = K::ends(&rule);
            ranges.leave(&mut around, Some(first));
            let decision = Some((rule.action, rule.prefix.length()));
            ranges.begin(first, decision);
            around.push((last, decision));
        }
        ranges.leave(&mut around, None);
        ranges.starts.shrink_to_fit();
        ranges.decisions.shrink_to_fit();
        if ranges.starts.len() >= INDEXED {
            let before = |top: usize| {
                narrow::to_u32(ranges.starts.partition_point(|start| start.top() < top))
            };
            ranges.index = (0..=TOPS).map(before).collect();
        }
        ranges
    }

    /// Ends the prefixes that end before `until`: behind each the one around it decides again.
    fn leave(&mut self, around: &mut Vec<(K, Decision)>, until: Option<K>) {
        while let Some((last, _)) = around.last().copied()
            && until.is_none_or(|until| last < until)
        {
            around.pop();
            if let Some(next) = last.next() {
                self.begin(next, around.last().and_then(|(_, decision)| *decision));
            }
        }
    }

    fn begin(&mut self, start: K, decision: Decision) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.decisions.pop();
        }
        if self.decisions.last().copied().flatten() != decision || self.starts.is_empty() {
            self.starts.push(start);
            self.decisions.push(decision);
        }
    }
}

/// An address as a number.
pub(super) trait Key: Ord + Copy {
    /// The first and the last one of a rule.
    fn ends(rule: &Rule) -> (Self, Self);
    /// The one after this, `None` at the end.
    fn next(self) -> Option<Self>;
    /// Its first 16 bits.
    fn top(self) -> usize;
}

impl Key for u32 {
    fn ends(rule: &Rule) -> (Self, Self) {
        let first = rule.prefix.addr().as_v4().map_or(0, Self::from_be_bytes);
        let host = Self::MAX.checked_shr(rule.prefix.length().into());
        (first, first | host.unwrap_or(0))
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn top(self) -> usize {
        (self >> (Self::BITS - 16)) as usize
    }
}

impl Key for u128 {
    fn ends(rule: &Rule) -> (Self, Self) {
        let first = Self::from_be_bytes(rule.prefix.addr().v6_octets());
        let host = Self::MAX.checked_shr(rule.prefix.length().into());
        (first, first | host.unwrap_or(0))
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }

    fn top(self) -> usize {
        (self >> (Self::BITS - 16)) as usize
    }
}
