//! `uvs top --once`, and where there is no terminal: two samples, then services and servers as a table.

use super::grid::{self, Item};
use super::model::Reading;
use crate::commands::columns::{Value, heads, services};
use crate::commands::output::{Column, number, table, text};

/// Services, each followed by its servers.
pub(super) fn render(reading: &Reading) -> String {
    let mut rows = Vec::new();
    for item in sorted(grid::services(reading)) {
        let Some(Value::Service(key)) = item.values.first() else {
            continue;
        };
        // What its servers have beside is not a service's.
        let service = row(&item, "");
        rows.push(
            service
                .into_iter()
                .chain(["", ""].map(str::to_owned))
                .collect(),
        );
        let servers = reading.service(key).map(|s| grid::servers(reading, s));
        let servers = sorted(servers.unwrap_or_default());
        rows.extend(servers.iter().map(|server| row(server, "  ")));
    }
    table(&columns(), &rows)
}

/// The same titles for both: where a service has its scheduler and servers, these have mode and weight, and then their
/// state.
fn columns() -> Vec<Column> {
    let load = heads(&services::TOP[1..8]);
    let first = [text("SERVICE / SERVER")];
    let last = [
        text("SCHEDULER / MODE"),
        number("SERVERS / WEIGHT"),
        text("STATE"),
        text("WHY"),
    ];
    first.into_iter().chain(load).chain(last).collect()
}

fn sorted(mut items: Vec<Item>) -> Vec<Item> {
    grid::sort(&mut items, 0, false);
    items
}

fn row(item: &Item, indent: &str) -> Vec<String> {
    let mut cells: Vec<String> = item.values.iter().map(Value::text).collect();
    cells[0].insert_str(0, indent);
    cells
}

#[cfg(test)]
mod tests {
    use super::super::model::Meter;
    use super::super::testing::sample;
    use super::*;

    #[test]
    fn servers_follow_their_service() {
        let mut meter = Meter::default();
        meter.read(sample(0, 0));
        let shown = render(&meter.read(sample(1_000, 25)));
        assert_eq!(
            shown,
            "SERVICE / SERVER     ACTIVE  INACT  CONN/S  IN-BIT/S  OUT-BIT/S  IN-PKT/S  OUT-PKT/S  SCHEDULER / MODE  SERVERS / WEIGHT  STATE  WHY\n\
             TCP 192.168.0.38:80       4     40      25     20.0k      20.0k       250        250  wrr                              2\n\
             \x20 192.168.0.18:80         3     30      25     20.0k      20.0k       250        250  nat                              3  up     -\n\
             \x20 192.168.0.28:80         1     10      25     20.0k          -       250          -  dr                               1  up     -\n"
        );
    }
}
