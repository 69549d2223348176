//! Numbers for people, three digits and a suffix, and from them.

use std::time::Duration;

/// `0`, `0.4`, `12`, `999`, `1.23k`, `45.6M`, `7.89G`.
pub(crate) fn short(n: f64) -> String {
    const SUFFIXES: [&str; 5] = ["", "k", "M", "G", "T"];
    if n < 9.95 {
        let text = format!("{n:.1}");
        return text.strip_suffix(".0").map(str::to_owned).unwrap_or(text);
    }
    let (mut scaled, mut suffix) = (n, 0);
    while scaled >= 999.5 && suffix + 1 < SUFFIXES.len() {
        scaled /= 1000.0;
        suffix += 1;
    }
    let decimals = match scaled {
        _ if suffix == 0 => 0,
        s if s < 9.995 => 2,
        s if s < 99.95 => 1,
        _ => 0,
    };
    format!("{scaled:.decimals$}{}", SUFFIXES[suffix])
}

/// `7 s`, `3 m 20 s`, `5 h 1 m`, `12 d 3 h`.
pub(crate) fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    let two = |big: u64, of: &str, small: u64, and: &str| format!("{big} {of} {small} {and}");
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

/// `850 ns`, `1.2 µs`, `37 µs`, `4.5 ms`, `1.2 s`: two digits, as latencies are recorded.
pub(crate) fn nanoseconds(ns: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let ns = ns as f64;
    let fits = |(_, size): &&(&str, f64)| ns < size * 999.5;
    let (unit, size) = UNITS.iter().find(fits).unwrap_or(&UNITS[3]);
    let scaled = ns / size;
    let decimals = usize::from(*size > 1.0 && scaled < 9.95);
    format!("{scaled:.decimals$} {unit}")
}

/// Reads a time between two looks.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .filter(|s| (0.2..=60.0).contains(s));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "must be a number of seconds from 0.2 to 60".to_owned())
}

/// Reads a time in whole seconds: `60`, `60s`, `5m`, `1h`.
pub(crate) fn seconds(text: &str) -> Result<u32, String> {
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, "s"),
    };
    let each = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    let all = number.parse::<u32>().ok().and_then(|n| n.checked_mul(each));
    all.filter(|seconds| *seconds > 0)
        .ok_or_else(|| "must be a time like 60s, 5m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_at_most() {
        for (n, shown) in [
            (0.0, "0"),
            (0.4, "0.4"),
            (3.0, "3"),
            (5.96, "6"),
            (9.96, "10"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (1234.0, "1.23k"),
            (45_600.0, "45.6k"),
            (456_789.0, "457k"),
            (999_600.0, "1.00M"),
            (7.89e9, "7.89G"),
            (1.5e16, "15000T"),
        ] {
            assert_eq!(short(n), shown);
        }
    }

    #[test]
    fn times_have_their_two_largest_units() {
        for (seconds, shown) in [
            (7, "7 s"),
            (200, "3 m 20 s"),
            (18_060, "5 h 1 m"),
            (1_047_600, "12 d 3 h"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), shown);
        }
        for (ns, shown) in [
            (850, "850 ns"),
            (1_200, "1.2 µs"),
            (37_400, "37 µs"),
            (4_500_000, "4.5 ms"),
            (1_200_000_000, "1.2 s"),
        ] {
            assert_eq!(nanoseconds(ns), shown);
        }
    }
}
