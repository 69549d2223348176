//! What weighted round-robin owes each real server, exactly.
//!
//! The kernel's wrr repeats one cycle of Σw/gcd(w) picks, in which each server comes w/gcd times. Adding or
//! editing a server only changes where in the cycle it goes on, and every window of whole cycles holds the
//! same picks wherever it begins; so the share over a multiple of [`cycle`] requests is exact.

use crate::traffic::Answers;

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
