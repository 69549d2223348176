//! What weighted round-robin owes each real server, exactly.
//!
//! The kernel's wrr repeats one cycle of Σw/gcd(w) picks, in which each server comes w/gcd times. Adding or
//! editing a server only changes where in the cycle it goes on, and every window of whole cycles holds the
//! same picks wherever it begins; so the share over a multiple of [`cycle`] requests is exact.

use std::thread;

use crate::traffic::Answers;

/// How many workers the lab's directors have: `UVS_WORKERS`, which they read too.
///
/// Each of several goes round for itself. So over all of them a server may have so many connections more or less than its
/// share, and of [`workers`] times as many connections as there are servers each server has one.
pub fn workers() -> u32 {
    let cpus = || thread::available_parallelism().map_or(1, usize::from);
    match std::env::var("UVS_WORKERS").as_deref() {
        Ok("auto") => u32::try_from(cpus()).unwrap_or(1),
        Ok(number) => number.parse().unwrap_or(1),
        Err(_) => 1,
    }
}

/// Picks until wrr begins again; 0 if all weights are.
pub fn cycle(weights: &[u32]) -> u32 {
    let divisor = weights.iter().copied().fold(0, gcd);
    weights
        .iter()
        .sum::<u32>()
        .checked_div(divisor)
        .unwrap_or(0)
}

/// How many of `requests`, a multiple of the cycle, each server must answer.
pub fn expected(weights: &[u32], requests: u32) -> Vec<u32> {
    let total: u32 = weights.iter().sum();
    weights
        .iter()
        .map(|weight| (requests * weight).checked_div(total).unwrap_or(0))
        .collect()
}

/// One line of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The real server.
    pub server: String,
    /// Its weight.
    pub weight: u32,
    /// What it must answer.
    pub expected: u32,
    /// What it answered.
    pub answered: u32,
}

impl Share {
    /// Whether it answered what it must, or of several workers as nearly as they can say together.
    pub fn is_right(&self) -> bool {
        let off = self.answered.abs_diff(self.expected);
        off == 0 || workers() > 1 && self.expected > 0 && off <= workers()
    }
}

/// Compares answers with what the weights say, for the servers in this order; an answer by another server
/// is a line with weight 0.
pub fn compare(servers: &[(String, u32)], answers: &Answers) -> Vec<Share> {
    let weights: Vec<_> = servers.iter().map(|(_, weight)| *weight).collect();
    let expected = expected(&weights, answers.values().sum());
    let known = servers
        .iter()
        .zip(expected)
        .map(|((server, weight), expected)| Share {
            server: server.clone(),
            weight: *weight,
            expected,
            answered: answers.get(server).copied().unwrap_or(0),
        });
    let strangers = answers
        .iter()
        .filter(|(name, _)| servers.iter().all(|(server, _)| server != *name));
    let unexpected = strangers.map(|(name, &answered)| Share {
        server: name.clone(),
        weight: 0,
        expected: 0,
        answered,
    });
    known.chain(unexpected).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_the_sum_over_the_divisor() {
        assert_eq!(cycle(&[3, 1, 2]), 6);
        assert_eq!(cycle(&[40, 40, 20]), 5);
        assert_eq!(cycle(&[3, 0, 0]), 1);
        assert_eq!(cycle(&[0, 0]), 0);
    }

    #[test]
    fn shares_follow_the_weights() {
        assert_eq!(expected(&[3, 1, 2], 60), [30, 10, 20]);
        assert_eq!(expected(&[0, 1, 2], 60), [0, 20, 40]);
        assert_eq!(expected(&[0, 0], 0), [0, 0]);
    }

    #[test]
    fn a_server_that_should_not_answer_shows() {
        let answers = Answers::from([("rs1".into(), 3), ("rs9".into(), 1)]);
        let shares = compare(&[("rs1".into(), 3), ("rs2".into(), 1)], &answers);
        let wrong: Vec<_> = shares
            .iter()
            .filter(|s| s.expected != s.answered)
            .map(|s| s.server.as_str())
            .collect();
        assert_eq!(wrong, ["rs2", "rs9"]);
    }
}
