//! Why a frame came up: the program's numbers are those of [`Up`], from [`cell::UP`] on.

use uvs_core::offload::Up;

use crate::layout::cell;

/// The port's cell of a reason.
pub(crate) const fn place(why: Up) -> u32 {
    cell::UP + why as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_numbers_are_the_reasons() {
        let header = include_str!("../bpf/layout.h");
        for why in Up::ALL {
            let name = why.label().to_uppercase();
            let define = format!("#define UP_{name} {}", place(*why));
            let mut lines = header.lines().map(|l| l.split_whitespace().take(3));
            let wanted: Vec<&str> = define.split_whitespace().collect();
            assert!(lines.any(|l| l.eq(wanted.iter().copied())), "{define}");
        }
        let defined = header.lines().filter(|l| l.starts_with("#define UP_"));
        assert_eq!(defined.count(), Up::COUNT);
    }
}
