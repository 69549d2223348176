//! Where frames went, as `uvs show drops` tells it.

use std::collections::BTreeMap;

use serde_json::Value;
use uvs_lab::Lab;
use uvs_lab::shell::Shell;

/// Totals and drop counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    totals: BTreeMap<String, u64>,
    drops: BTreeMap<String, u64>,
}

impl Counters {
    /// Reads them, and fails unless every received frame is accounted for.
    pub(crate) fn read(lab: &Lab, shell: &Shell) -> Self {
        let shown = shell
            .succeed(&lab.director, "uvs show drops -o json")
            .expect("they are shown");
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        let number = |value: &Value| value.as_u64().expect("a count");
        let totals = shown["totals"].as_object().expect("totals");
        let drops = shown["drops"].as_array().expect("drops");
        let counters = Self {
            totals: totals.iter().map(|(k, v)| (k.clone(), number(v))).collect(),
            drops: drops
                .iter()
                .map(|d| {
                    let reason = d["reason"].as_str().expect("a name");
                    (reason.to_owned(), number(&d["count"]))
                })
                .collect(),
        };
        counters.must_add_up();
        counters
    }

    /// A total: `received`, `sent`, `answered`, `held`, `passed` or `dropped`.
    pub(crate) fn total(&self, name: &str) -> u64 {
        self.totals[name]
    }

    /// Drops of one reason.
    pub(crate) fn drops(&self, reason: &str) -> u64 {
        self.drops[reason]
    }

    /// The drops since an earlier reading, those that happened.
    pub(crate) fn drops_since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let new =
            |(reason, count): (&String, &u64)| (reason.clone(), count - earlier.drops[reason]);
        let all = self.drops.iter().map(new);
        all.filter(|(_, count)| *count > 0).collect()
    }

    fn must_add_up(&self) {
        let ends = [
            "sent",
            "answered",
            "held",
            "passed",
            "local",
            "in_kernel",
            "dropped",
        ];
        let sum: u64 = ends.iter().map(|name| self.total(name)).sum();
        assert_eq!(self.total("received"), sum, "{self:?}");
        let dropped: u64 = self.drops.values().sum();
        let known = self.total("dropped") + self.total("lost");
        assert_eq!(known, dropped, "{self:?}");
    }
}
