//! The difference of two latency samples: percentiles, and a histogram in steps that people read.

use serde::Serialize;
use uvs_control::protocol::LatencySample;

/// What is measured, and what the clocks allow. Printed with every answer, since a number without it misleads.
pub(super) const MEASURED: &[&str] = &[
    "from the kernel's time stamp on a frame, taken when it is put into the ring at the latest, until the send call for its batch has returned",
    "not in it: the network card and the kernel before the ring, the card after the call, and the wait of a frame whose next hop's MAC address is not known yet",
    "the first frame of a batch is charged with the whole batch, so values are upper bounds; each is right to two digits",
    "both readings are CLOCK_REALTIME: a clock that is set (not slewed) in the window makes wrong values then, as low as 1 ns",
];
/// Percentiles by name, in thousandths.
const PERCENTILES: [(&str, u64); 4] = [("p50", 500), ("p90", 900), ("p99", 990), ("p99.9", 999)];

/// Frames of a window by how long they took.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Window {
    /// Its length.
    pub(super) seconds: f64,
    /// Frames measured.
    pub(super) frames: u64,
    /// Frames that the engine forwarded: the same, unless UVS has a fault.
    pub(super) forwarded: u64,
    /// Frames that nobody measured, as they came while a ring was full.
    pub(super) missed: u64,
    /// The worker's share of the window, 0 to 1.
    pub(super) busy: f64,
    /// By name, in nanoseconds; empty without frames.
    pub(super) percentiles: Vec<Percentile>,
    /// Steps from the fastest frame to the slowest.
    pub(super) histogram: Vec<Step>,
    /// What is measured.
    pub(super) measured: &'static [&'static str],
}

/// So many frames took no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Percentile {
    /// `p50` and so on, `max`.
    pub(super) name: &'static str,
    /// Nanoseconds.
    pub(super) ns: u64,
}

/// Frames between the step before and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// Nanoseconds, included.
    pub(super) up_to_ns: u64,
    /// Frames.
    pub(super) frames: u64,
}

/// Why there is no difference.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum WindowError {
    /// Another worker counted at the other end.
    #[error("the daemon was started again within the window; ask once more")]
    Restarted,
}

impl Window {
    /// From `before` until `now`; since the daemon's start where there is nothing before.
    pub(super) fn between(
        before: Option<&LatencySample>,
        now: &LatencySample,
    ) -> Result<Self, WindowError> {
        let start = LatencySample {
            taken_ns: now.started_ns,
            started_ns: now.started_ns,
            ..LatencySample::default()
        };
        let before = before.unwrap_or(&start);
        if before.started_ns != now.started_ns || before.taken_ns > now.taken_ns {
            return Err(WindowError::Restarted);
        }
        let ns = now.taken_ns - before.taken_ns;
        let counts = difference(&before.counts, &now.counts);
        Ok(Self {
            seconds: ns as f64 / 1e9,
            frames: counts.iter().map(|(_, frames)| frames).sum(),
            forwarded: now.forwarded.saturating_sub(before.forwarded),
            missed: now.ring_drops.saturating_sub(before.ring_drops),
            busy: now.busy_ns.saturating_sub(before.busy_ns) as f64 / ns.max(1) as f64,
            percentiles: percentiles(&counts),
            histogram: histogram(&counts),
            measured: MEASURED,
        })
    }
}

fn difference(before: &[(u64, u64)], now: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let old = |value| {
        let at = before.binary_search_by_key(&value, |(v, _)| *v);
        at.map_or(0, |at| before[at].1)
    };
    let new = now
        .iter()
        .map(|&(value, frames)| (value, frames.saturating_sub(old(value))));
    new.filter(|(_, frames)| *frames > 0).collect()
}

fn percentiles(counts: &[(u64, u64)]) -> Vec<Percentile> {
    let total: u64 = counts.iter().map(|(_, frames)| frames).sum();
    let Some(&(max, _)) = counts.last() else {
        return Vec::new();
    };
    let at = |thousandths: u64| {
        let wanted = (u128::from(total) * u128::from(thousandths)).div_ceil(1000);
        let mut so_far = 0;
        let reached = counts.iter().find(|(_, frames)| {
            so_far += u128::from(*frames);
            so_far >= wanted
        });
        reached.map_or(max, |(value, _)| *value)
    };
    let named = PERCENTILES.map(|(name, thousandths)| Percentile {
        name,
        ns: at(thousandths),
    });
    named
        .into_iter()
        .chain([Percentile {
            name: "max",
            ns: max,
        }])
        .collect()
}

/// Steps of 1, 2, 5, 10 … without those before the first frame and after the last.
fn histogram(counts: &[(u64, u64)]) -> Vec<Step> {
    let Some(&(max, _)) = counts.last() else {
        return Vec::new();
    };
    let decades = (0..11).map(|exponent| 10_u64.pow(exponent));
    let bounds = decades.flat_map(|decade| [decade, 2 * decade, 5 * decade]);
    let (mut rest, mut steps) = (counts.iter().peekable(), Vec::new());
    for up_to_ns in bounds {
        let mut frames = 0;
        while let Some((_, more)) = rest.next_if(|(value, _)| *value <= up_to_ns) {
            frames += more;
        }
        if frames > 0 || !steps.is_empty() {
            steps.push(Step { up_to_ns, frames });
        }
        if up_to_ns >= max {
            break;
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: u64, counts: &[(u64, u64)]) -> LatencySample {
        LatencySample {
            taken_ns: seconds * 1_000_000_000,
            started_ns: 1_000_000_000,
            forwarded: counts.iter().map(|(_, frames)| frames).sum(),
            ring_drops: seconds,
            busy_ns: seconds * 250_000_000,
            counts: counts.to_vec(),
        }
    }

    fn step(up_to_ns: u64, frames: u64) -> Step {
        Step { up_to_ns, frames }
    }

    #[test]
    fn a_window_has_what_came_between() {
        let before = sample(10, &[(1_500, 100), (900_000, 7)]);
        let now = sample(
            14,
            &[
                (1_500, 600),
                (4_000, 400),
                (31_000, 99),
                (900_000, 7),
                (2_000_000, 1),
            ],
        );
        let window = Window::between(Some(&before), &now).expect("one daemon");
        assert_eq!(
            (window.frames, window.forwarded, window.missed),
            (1_000, 1_000, 4)
        );
        assert_eq!((window.seconds, window.busy), (4.0, 0.25));
        let percentiles: Vec<_> = window.percentiles.iter().map(|p| (p.name, p.ns)).collect();
        let expected = [
            ("p50", 1_500),
            ("p90", 4_000),
            ("p99", 31_000),
            ("p99.9", 31_000),
            ("max", 2_000_000),
        ];
        assert_eq!(percentiles, expected);
        assert_eq!(window.histogram.first(), Some(&step(2_000, 500)));
        assert_eq!(window.histogram.get(3), Some(&step(20_000, 0)));
        assert_eq!(window.histogram.last(), Some(&step(2_000_000, 1)));
    }

    #[test]
    fn without_a_before_it_is_since_the_start() {
        let window = Window::between(None, &sample(3, &[(2_000, 5)])).expect("one daemon");
        assert_eq!((window.seconds, window.frames), (2.0, 5));
        assert_eq!(window.histogram, [step(2_000, 5)]);
    }

    #[test]
    fn nothing_forwarded_has_no_percentiles() {
        let same = sample(3, &[(2_000, 5)]);
        let window = Window::between(Some(&same), &same).expect("one daemon");
        assert_eq!((window.frames, window.busy), (0, 0.0));
        assert!(window.percentiles.is_empty() && window.histogram.is_empty());
    }

    #[test]
    fn a_restart_in_between_is_told() {
        let mut now = sample(9, &[]);
        now.started_ns = 8_000_000_000;
        let window = Window::between(Some(&sample(3, &[])), &now);
        assert_eq!(window, Err(WindowError::Restarted));
    }

    #[test]
    fn every_frame_is_in_a_step_up_to_the_longest_that_is_recorded() {
        let counts = [(1, 1), (2, 1), (999_999, 3), (10_066_329_599, 4)];
        let steps = histogram(&counts);
        assert_eq!(steps.iter().map(|s| s.frames).sum::<u64>(), 9);
        assert_eq!(steps[..2], [step(1, 1), step(2, 1)]);
    }
}
