//! What a service of a firewall mark matches: `fwmark = 1` with `match = ["tcp 192.0.2.1:80", …]`.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};

use uvs_core::marks::{Destination, DestinationError, MarkRule};
use uvs_core::service::ServiceKey;

use super::fields::{Fields, Value};

const MARK: RangeInclusive<i64> = 1..=u32::MAX as i64;

/// The rules of a whole file, each destination once.
#[derive(Default)]
pub(super) struct Distinct {
    rules: Vec<MarkRule>,
    seen: HashMap<Destination, Range<usize>>,
}

impl Distinct {
    /// The rules in the file's order.
    pub(super) fn into_rules(self) -> Vec<MarkRule> {
        self.rules
    }

    /// Reads `match`, which services of marks have, and others have not.
    pub(super) fn read(&mut self, fields: &Fields<'_>, service: &Value<'_>, key: ServiceKey) {
        let value = fields.get("match");
        let ServiceKey::Mark { mark, .. } = key else {
            if let Some(value) = value {
                let help = "remove it, or write fwmark = NUMBER in place of the address";
                value.refuse("is only for services of a firewall mark", help);
            }
            return;
        };
        let items = value.as_ref().map(Value::items).unwrap_or_default();
        if items.is_empty() && value.as_ref().is_none_or(Value::is_array) {
            let help = "add: match = [\"tcp VIP:PORT\"]; netfilter's marks are not seen";
            let at = value.as_ref().unwrap_or(service);
            at.refuse(format!("no packet has the firewall mark {mark}"), help);
        }
        for item in items {
            if let Some(to) = self.add(&item, mark)
                && to.addr.is_v4() != key.is_v4()
            {
                let family = if key.is_v4() { "IPv4" } else { "IPv6" };
                item.refuse(
                    format!("{to} is not {family}, as the first is"),
                    "write a service for each family; both may have the same mark",
                );
            }
        }
    }

    fn add(&mut self, item: &Value<'_>, mark: u32) -> Option<Destination> {
        let to: Destination = match item.string()?.parse() {
            Ok(to) => to,
            Err(DestinationError { what, help }) => {
                item.refuse(what, help);
                return None;
            }
        };
        if let Some(first) = self.seen.get(&to) {
            let help = "a packet has one mark: write each destination once";
            item.refuse_again(format!("{to} twice"), help, first.clone());
            return None;
        }
        self.seen.insert(to, item.span());
        self.rules.push(MarkRule { mark, to });
        Some(to)
    }
}

/// Whether the first destination that a service of a mark matches is IPv6.
pub(super) fn is_ipv6(fields: &Fields<'_>) -> bool {
    let value = fields.get("match").filter(Value::is_array);
    let items = value.as_ref().map(Value::items).unwrap_or_default();
    let mut destinations = items.iter().filter_map(|item| {
        let text = item.text()?;
        text.parse::<Destination>().ok()
    });
    destinations.next().is_some_and(|to| !to.addr.is_v4())
}

/// `fwmark`, where the service has it.
pub(super) fn mark<'a>(fields: &Fields<'a>) -> Option<(Value<'a>, Option<u32>)> {
    let value = fields.get("fwmark")?;
    let mark = value.integer(MARK);
    Some((value, mark))
}
