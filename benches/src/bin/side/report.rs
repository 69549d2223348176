//! The table: medians over the rounds, and the median of the rounds' ratios.
//!
//! Peers are measured in turn within a round, so what else the machine does meanwhile hits them alike: the
//! ratio within a round means more than that of two medians.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use uvs_lab::Mode;

use crate::cells::{Cell, Figure};
use crate::expected::{Mark, mark};
use crate::peers::Peer;

/// All figures of a mode, by round.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    values: BTreeMap<(Cell, Figure, Peer), BTreeMap<u32, f64>>,
}

impl Figures {
    /// Notes what one load gave.
    pub(crate) fn add(&mut self, round: u32, peer: Peer, cell: Cell, figures: Vec<(Figure, f64)>) {
        for (figure, value) in figures {
            let rounds = self.values.entry((cell, figure, peer)).or_default();
            rounds.insert(round, value);
        }
    }

    /// The median of a figure, `None` where it was not measured.
    fn median(&self, cell: Cell, figure: Figure, peer: Peer) -> Option<f64> {
        let rounds = self.values.get(&(cell, figure, peer))?;
        median(rounds.values().copied().collect())
    }

    /// The median ratio `ours` / `theirs` of the rounds in which both were measured.
    fn ratio(&self, cell: Cell, figure: Figure, ours: Peer, theirs: Peer) -> Option<f64> {
        let ours = self.values.get(&(cell, figure, ours))?;
        let theirs = self.values.get(&(cell, figure, theirs))?;
        let both = ours
            .iter()
            .filter_map(|(round, our)| theirs.get(round).map(|their| our / their));
        median(both.filter(|ratio| ratio.is_finite()).collect())
    }

    /// The Markdown tables of a mode: the figures, and the ratios.
    pub(crate) fn tables(&self, mode: Mode, peers: &[Peer]) -> String {
        let mut text = header(peers.iter().map(ToString::to_string));
        for (cell, figure) in self.rows() {
            let medians = peers.iter().map(|peer| {
                let median = self.median(cell, figure, *peer);
                median.map_or_else(nothing, number)
            });
            text += &line(&row_name(cell, figure), medians);
        }
        let pairs = pairs(peers);
        if pairs.is_empty() {
            return text;
        }
        text += "\nRatios, medians over the rounds:\n\n";
        text += &header(pairs.iter().map(|(a, b)| format!("{a} / {b}")));
        for (cell, figure) in self.rows() {
            let ratio = |(ours, theirs): &(Peer, Peer)| self.ratio(cell, figure, *ours, *theirs);
            if pairs.iter().all(|pair| ratio(pair).is_none()) {
                continue;
            }
            let ratios = pairs.iter().map(|pair| {
                let mark = mark(mode, cell, figure, *pair);
                ratio(pair).map_or_else(nothing, |ratio| judged(ratio, mark))
            });
            text += &line(&row_name(cell, figure), ratios);
        }
        text
    }

    fn rows(&self) -> BTreeSet<(Cell, Figure)> {
        let rows = self
            .values
            .iter()
            .filter(|((_, figure, _), rounds)| {
                *figure != Figure::Failed || rounds.values().any(|value| *value > 0.0)
            })
            .map(|((cell, figure, _), _)| (*cell, *figure));
        rows.collect()
    }
}

/// What is set beside what: UVS, in all its ways, beside everything that is not UVS, and beside its plain way.
fn pairs(peers: &[Peer]) -> Vec<(Peer, Peer)> {
    let ours = peers.iter().filter(|peer| peer.is_ours());
    let pairs = ours.flat_map(|ours| {
        let others = peers.iter().filter(|peer| !peer.is_ours());
        others.map(|other| (*ours, *other))
    });
    let more = peers.iter().filter(|p| matches!(p, Peer::Workers(_)));
    let beside = [Peer::Hook].into_iter().chain(more.copied());
    let between = beside.filter(|one| peers.contains(one) && peers.contains(&Peer::Plain));
    pairs.chain(between.map(|one| (one, Peer::Plain))).collect()
}

fn header(columns: impl Iterator<Item = String>) -> String {
    let columns: Vec<String> = columns.collect();
    let rule = "---|".repeat(1 + columns.len());
    format!("{}|{rule}\n", line("", columns.into_iter()))
}

fn line(name: &str, columns: impl Iterator<Item = String>) -> String {
    let mut text = if name.is_empty() {
        "| |".to_owned()
    } else {
        format!("| {name} |")
    };
    columns.for_each(|column| {
        let _ = write!(text, " {column} |");
    });
    text.push('\n');
    text
}

fn row_name(cell: Cell, figure: Figure) -> String {
    let (rate, unit) = cell.unit();
    let figure = match figure {
        Figure::Rate => rate.to_owned(),
        Figure::P50 => "p50, µs".to_owned(),
        Figure::P99 => "p99, µs".to_owned(),
        Figure::BalancerCpu => format!("balancer's CPU, µs/{unit}"),
        Figure::MachineCpu => format!("machine's CPU, µs/{unit}"),
        Figure::Loss => "lost, %".to_owned(),
        Figure::Failed => "failed requests".to_owned(),
    };
    format!("{}: {figure}", cell.name())
}

/// A ratio with its mark; one that is missed stands out.
fn judged(ratio: f64, mark: Option<Mark>) -> String {
    let Some(mark) = mark else {
        return format!("{ratio:.2}");
    };
    let wanted = match mark {
        Mark::AtLeast(mark) => format!("≥ {mark}"),
        Mark::AtMost(mark) => format!("≤ {mark}"),
    };
    if mark.reached(ratio) {
        format!("{ratio:.2} ({wanted})")
    } else {
        format!("**{ratio:.2}** (missed {wanted})")
    }
}

/// Where there is no figure.
fn nothing() -> String {
    "–".to_owned()
}

/// Three digits.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1e4 => format!("{:.1}k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// `text` with what lies between the marks of a generated section replaced by `body`; appended where there
/// is no such section.
pub(crate) fn replace_section(text: &str, name: &str, body: &str) -> String {
    let (begin, end) = (
        format!("<!-- {name}: begin -->"),
        format!("<!-- {name}: end -->"),
    );
    let section = format!("{begin}\n{body}\n{end}");
    let place = text.find(&begin).and_then(|from| {
        text[from..]
            .find(&end)
            .map(|to| (from, from + to + end.len()))
    });
    match place {
        Some((from, to)) => format!("{}{section}{}", &text[..from], &text[to..]),
        None => format!("{text}\n{section}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_that_have_both() {
        let mut figures = Figures::default();
        let rates = [(1, 10.0, 5.0), (2, 100.0, 100.0), (3, 30.0, 10.0)];
        for (round, ours, theirs) in rates {
            figures.add(round, Peer::Plain, Cell::Bulk, vec![(Figure::Rate, ours)]);
            figures.add(round, Peer::Nft, Cell::Bulk, vec![(Figure::Rate, theirs)]);
        }
        figures.add(4, Peer::Plain, Cell::Bulk, vec![(Figure::Rate, 1e9)]);
        assert_eq!(
            figures.ratio(Cell::Bulk, Figure::Rate, Peer::Plain, Peer::Nft),
            Some(2.0)
        );
        let tables = figures.tables(Mode::Nat, &[Peer::Plain, Peer::Nft]);
        assert_eq!(
            tables,
            "| | UVS plain | nft DNAT |\n|---|---|---|\n\
             | bulk upload: Gbit/s | 65.0 | 10.0 |\n\n\
             Ratios, medians over the rounds:\n\n\
             | | UVS plain / nft DNAT |\n|---|---|\n\
             | bulk upload: Gbit/s | 2.00 (≥ 0.6) |\n"
        );
    }

    #[test]
    fn all_is_set_beside_all_but_the_peers_among_themselves() {
        use Peer::{Direct, Hook, Nft, Plain};
        let beside = [
            (Hook, Nft),
            (Hook, Direct),
            (Plain, Nft),
            (Plain, Direct),
            (Hook, Plain),
        ];
        assert_eq!(pairs(&[Hook, Plain, Nft, Direct]), beside);
        assert_eq!(pairs(&[Nft, Direct]), []);
    }

    #[test]
    fn a_missed_mark_stands_out() {
        assert_eq!(
            judged(1.0, Some(Mark::AtLeast(1.5))),
            "**1.00** (missed ≥ 1.5)"
        );
        assert_eq!(judged(0.5, Some(Mark::AtMost(0.6))), "0.50 (≤ 0.6)");
        assert_eq!(judged(0.5, None), "0.50");
    }

    #[test]
    fn a_section_is_replaced_and_the_rest_stays() {
        let once = replace_section("# Head\n", "side", "one");
        let twice = replace_section(&format!("{once}tail\n"), "side", "two");
        assert_eq!(
            twice,
            "# Head\n\n<!-- side: begin -->\ntwo\n<!-- side: end -->\ntail\n"
        );
    }
}
