//! UVS's built-in schedulers: one algorithm, one file, one row of [`BUILTIN`].
//!
//! To add one, copy `rr.rs`, add its row here and run the tests: docs/add-a-scheduler.md.
#![forbid(unsafe_code)]

use uvs_core::scheduler::SchedulerDef;

mod cache;
mod dh;
mod fo;
mod gcd;
mod hash;
mod lblc;
mod lblcr;
mod lc;
mod load;
mod lrt;
pub mod maglev;
mod mh;
mod nq;
mod ovf;
mod p2c;
mod rr;
mod sed;
mod sh;
mod swrr;
mod twos;
mod wlc;
mod wrr;

/// Every built-in scheduler, IPVS's first.
pub static BUILTIN: &[SchedulerDef] = &[
    rr::DEF,
    wrr::DEF,
    lc::DEF,
    wlc::DEF,
    sed::DEF,
    nq::DEF,
    fo::DEF,
    ovf::DEF,
    twos::DEF,
    sh::DEF,
    dh::DEF,
    mh::DEF,
    lblc::DEF,
    lblcr::DEF,
    swrr::DEF,
    p2c::DEF,
    lrt::DEF,
];

/// The built-in scheduler of this name.
pub fn find(name: &str) -> Option<&'static SchedulerDef> {
    BUILTIN.iter().find(|def| def.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_core::scheduler::{Fork, SchedulerParams};
    use uvs_core::testing::conformance;

    #[test]
    fn every_row_conforms_with_every_flag() {
        for def in BUILTIN {
            for flags in [0x00, 0x08, 0x10, 0x18] {
                let params = SchedulerParams {
                    flags,
                    seed: 7,
                    table_size: 251,
                };
                let failures = conformance::check(true, &|| (def.new)(&params));
                assert_eq!(failures, [], "{} with flags {flags:#x}", def.name);
            }
        }
    }

    /// `uvs trace` tells the truth about it: the suite above holds the copy to the original.
    #[test]
    fn every_row_can_be_rehearsed() {
        for def in BUILTIN {
            let scheduler = (def.new)(&SchedulerParams::default());
            let exact = matches!(scheduler.fork(), Fork::Exact(_));
            assert!(exact, "{}: `fork` is to give an exact copy", def.name);
        }
    }

    #[test]
    fn the_manual_has_every_row() {
        let manual = include_str!("../../docs/schedulers.md");
        let rows = BUILTIN
            .iter()
            .map(|d| format!("| `{}` | {} |", d.name, d.about));
        let missing: Vec<String> = rows.filter(|row| !manual.contains(row)).collect();
        assert!(missing.is_empty(), "add to docs/schedulers.md: {missing:?}");
    }

    #[test]
    fn names_are_unique_and_fit_ipvsadm() {
        for (i, def) in BUILTIN.iter().enumerate() {
            assert!((1..=15).contains(&def.name.len()), "{}", def.name);
            assert!(
                !BUILTIN[..i].iter().any(|other| other.name == def.name),
                "{}",
                def.name
            );
            assert_eq!(find(def.name).map(|found| found.about), Some(def.about));
        }
        assert!(find("nothing").is_none());
    }
}
