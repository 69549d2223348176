//! `-L -c`: the connections, in the order of the daemon's table.

use std::io::Write;

use super::format::Style;
use super::stop::Stop;
use crate::control::protocol::ConnectionStatus;

const TITLES: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination";
/// Follows with `--persistent-conn`. No connection has engine data: UVS's `sip` is a name only.
const ENGINE_TITLES: &str = "        pe name          pe_data";

/// Prints connections under their titles.
pub(super) fn print(
    connections: &[ConnectionStatus],
    with_engines: bool,
    style: &Style<'_>,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    writeln!(
        out,
        "{TITLES}{}",
        if with_engines { ENGINE_TITLES } else { "" }
    )?;
    for connection in connections {
        writeln!(out, "{}", row(connection, style))?;
    }
    Ok(())
}

fn row(connection: &ConnectionStatus, style: &Style<'_>) -> String {
    let protocol = connection.protocol;
    let [client, vip, server] = [connection.client, connection.vip, connection.server]
        .map(|endpoint| style.endpoint(endpoint, protocol));
    let expires = format!(
        "{:02}:{:02}",
        connection.expires / 60,
        connection.expires % 60
    );
    let protocol = protocol.map_or("IP", |p| p.name());
    let state = &connection.state;
    format!("{protocol:<3} {expires:<6} {state:<11} {client:<18} {vip:<18} {server}")
}
