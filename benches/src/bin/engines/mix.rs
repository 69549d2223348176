//! Workers at once, each with a tape of its own: what the whole of a worker's turn costs a frame, but for the kernel's
//! part.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::{Result, ensure};
use uvs_core::flow::Family;
use uvs_core::service::Forwarding;
use uvs_forwarder::replay::{Part, Played, Tape, play};

use crate::tape::{self, CONNECTIONS, SCHEDULER};
use crate::{Args, cpu, median};

/// Frames of a worker in a round.
struct Figures {
    /// Each second of the clock,
    per_second: Vec<f64>,
    /// and nanoseconds of processor time of each.
    cost: Vec<f64>,
}

/// The table of what workers do.
pub(crate) fn measure(args: &Args) -> Result<String> {
    let most = args.at_once.iter().copied().max().unwrap_or(1);
    let tapes = (0..most).map(|n| tape::tape(n).map(Arc::new));
    let tapes: Vec<Arc<Tape>> = tapes.collect::<Result<_>>()?;
    let mut figures: Vec<Figures> = Vec::new();
    figures.resize_with(args.at_once.len(), || Figures {
        per_second: Vec::new(),
        cost: Vec::new(),
    });
    for _ in 0..args.rounds {
        for (of, figures) in args.at_once.iter().zip(&mut figures) {
            let played = round(&tapes[..*of as usize], args.passes as usize)?;
            let mean = |figure: fn(&Played) -> f64| {
                played.iter().map(figure).sum::<f64>() / played.len() as f64
            };
            figures.per_second.push(mean(|p| {
                p.counters.received as f64 / p.lasted.as_secs_f64()
            }));
            figures.cost.push(mean(|p| {
                p.cpu.as_nanos() as f64 / p.counters.received as f64
            }));
        }
    }
    let mut table = format!(
        "{} frames on each tape, {CONNECTIONS} connections\n\n| Workers at once | frames/s of each | ns of processor time a frame | beside the first |\n|---|---|---|---|\n",
        tapes.first().map_or(0, |tape| tape.frames()),
    );
    let first = figures.first().map_or(Vec::new(), |f| f.cost.clone());
    for (of, figures) in args.at_once.iter().zip(figures) {
        let ratios = figures.cost.iter().zip(&first).map(|(n, one)| n / one);
        let (rate, ratio) = (median(figures.per_second), median(ratios.collect()));
        let cost = median(figures.cost);
        writeln!(table, "| {of} | {rate:.0} | {cost:.1} | {ratio:.3} |")?;
    }
    Ok(table)
}

/// Plays these tapes at once. Each frame has the end that it was recorded for.
fn round(tapes: &[Arc<Tape>], passes: usize) -> Result<Vec<Played>> {
    let of = u32::try_from(tapes.len())?;
    let parts = (0..of).zip(tapes).map(|(n, tape)| Part {
        engine: uvs_benches::engine(CONNECTIONS * 2),
        tape: Arc::clone(tape),
        passes,
        cpu: cpu(n, of),
    });
    let network = Arc::new(uvs_benches::network(Family::V4));
    let services = uvs_benches::services(Family::V4, Forwarding::Nat, SCHEDULER);
    let played = play(parts.collect(), network, Arc::new(services))?;
    for (played, tape) in played.iter().zip(tapes) {
        let counters = &played.counters;
        let all = (tape.frames() * passes) as u64;
        let foreign = tape::foreign() * passes as u64;
        ensure!(
            (counters.received, counters.passed, counters.sent) == (all, foreign, all - foreign),
            "not all frames of the tape went where they should: {counters:?}"
        );
    }
    Ok(played)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_play_their_tapes_to_the_end_and_again() {
        let tapes = [0, 1].map(|n| Arc::new(tape::tape(n).expect("it fits the ring")));
        let played = round(&tapes, 2).expect("each frame ends as it was recorded to");
        assert_eq!(played.len(), 2);
        assert!(played.iter().all(|p| p.cpu > std::time::Duration::ZERO));
    }
}
