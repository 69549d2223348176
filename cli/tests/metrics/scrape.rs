//! A scrape, and sums over its series.

use std::thread;
use std::time::Duration;

use uvs_lab::Host;

/// Tries, a tenth of a second apart, until a condition must hold: a minute, for a machine that is slow.
const TRIES: u32 = 600;

/// The text of `/metrics`.
pub(crate) struct Scrape(String);

impl Scrape {
    /// Scrapes the daemon on `director`.
    pub(crate) fn of(director: &Host) -> Self {
        let text = director.run("curl -s -S -f http://127.0.0.1:9650/metrics");
        Self(text.expect("/metrics answers"))
    }

    /// A text that was scraped otherwise.
    pub(crate) const fn text(text: String) -> Self {
        Self(text)
    }

    /// Scrapes until `settled` holds, and returns what did.
    pub(crate) fn until(director: &Host, what: &str, settled: impl Fn(&Self) -> bool) -> Self {
        for _ in 0..TRIES {
            let scrape = Self::of(director);
            if settled(&scrape) {
                return scrape;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{what} never came true; last:\n{}", Self::of(director).0);
    }

    /// The sum of all series of a metric that have all these labels; there must be one.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        let series = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, ""));
            let fits = found == name && wanted.iter().all(|w| rest.contains(w.as_str()));
            fits.then(|| value.parse::<f64>().expect("a number"))
        });
        let values: Vec<f64> = series.collect();
        assert!(!values.is_empty(), "no {name} {labels:?} in\n{}", self.0);
        values.iter().sum()
    }

    /// The lines that start so, sorted.
    pub(crate) fn lines(&self, prefix: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = self.0.lines().filter(|l| l.starts_with(prefix)).collect();
        lines.sort_unstable();
        lines
    }
}
