//! How many CPUs a per-CPU map has values for.

use std::fs;
use std::io;

/// CPUs that there may ever be: one more than the highest number.
pub(crate) fn possible() -> io::Result<usize> {
    let text = fs::read_to_string("/sys/devices/system/cpu/possible")?;
    count(&text).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// From a list such as `0-3,8`.
fn count(list: &str) -> Option<usize> {
    let last = list.trim().rsplit([',', '-']).next()?;
    Some(last.parse::<usize>().ok()? + 1)
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn the_highest_number_counts() {
        assert_eq!(count("0\n"), Some(1));
        assert_eq!(count("0-3\n"), Some(4));
        assert_eq!(count("0-1,8-15"), Some(16));
        assert_eq!(count(""), None);
    }
}
