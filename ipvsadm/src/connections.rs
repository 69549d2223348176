//! `-L -c`: the connections, in the order of the daemon's table.

use std::io::Write;

use uvs_core::engine::ConnReport;

use super::format::Style;
use super::stop::Stop;

const TITLES: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination";
/// Follows with `--persistent-conn`.
const ENGINE_TITLES: &str = "        pe name          pe_data";

/// Connections that are printed as they come.
pub(super) struct Listing {
    /// Those that are still to be printed.
    titles: Option<String>,
    /// Whether what a persistence engine has found is printed too.
    with_engines: bool,
}

impl Listing {
    pub(super) fn new(with_engines: bool) -> Self {
        let more = if with_engines { ENGINE_TITLES } else { "" };
        Self {
            titles: Some(format!("{TITLES}{more}")),
            with_engines,
        }
    }

    /// Prints more connections, the first of them under their titles.
    pub(super) fn print(
        &mut self,
        connections: &[ConnReport],
        style: &Style<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Stop> {
        if let Some(titles) = self.titles.take() {
            writeln!(out, "{titles}")?;
        }
        for connection in connections {
            writeln!(out, "{}", row(connection, style, self.with_engines))?;
        }
        Ok(())
    }
}

fn row(connection: &ConnReport, style: &Style<'_>, with_engines: bool) -> String {
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
    let call = connection.call.as_ref().filter(|_| with_engines);
    // Narrower than their titles, as ipvsadm has it.
    let server = match call {
        Some(call) => format!("{server:<16} {:<18} {call}", "sip"),
        None => server,
    };
    format!("{protocol:<3} {expires:<6} {state:<11} {client:<18} {vip:<18} {server}")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use uvs_core::flow::{Endpoint, Protocol};
    use uvs_core::service::ServiceKey;

    use super::*;
    use crate::names::tests::FewNames;

    #[test]
    fn long_fields_push_the_rest_aside() {
        let client = endpoint("10.0.1.10", 40001);
        let (vip, server) = (endpoint("10.0.1.100", 80), endpoint("10.0.2.11", 80));
        let connection = ConnReport {
            protocol: Some(Protocol::Tcp),
            client,
            vip,
            server,
            state: "ESTABLISHED",
            expires: 90061,
            ..template()
        };
        let want = "TCP 1501:01 ESTABLISHED 10.0.1.10:40001    10.0.1.100:80      10.0.2.11:80";
        assert_eq!(numeric(&connection), want);
        let sctp = ConnReport {
            protocol: Some(Protocol::Sctp),
            state: "SHUTDOWN_RECEIVED",
            expires: 9,
            ..connection.clone()
        };
        let want =
            "SCTP 00:09  SHUTDOWN_RECEIVED 10.0.1.10:40001    10.0.1.100:80      10.0.2.11:80";
        assert_eq!(numeric(&sctp), want);
        let six = ConnReport {
            client: endpoint("fd00::a", 40001),
            vip: endpoint("fd00::1", 80),
            server: endpoint("fd00::2", 80),
            state: "SYN_RECV",
            expires: 59,
            ..connection
        };
        let want = "TCP 00:59  SYN_RECV    [fd00::a]:40001    [fd00::1]:80       [fd00::2]:80";
        assert_eq!(numeric(&six), want);
    }

    #[test]
    fn a_marks_template_has_no_protocol_and_no_port_names() {
        let named = row(
            &template(),
            &Style {
                numeric: false,
                names: &FewNames,
            },
            true,
        );
        let want = "IP  00:59  NONE        10.0.1.22:0        0.0.0.1:80         10.0.2.11:0";
        assert_eq!(named, want);
    }

    #[test]
    fn a_calls_template_names_it_where_that_is_asked_for() {
        let template = ConnReport {
            protocol: Some(Protocol::Udp),
            vip: endpoint("10.0.1.100", 5060),
            server: endpoint("10.0.2.11", 5060),
            call: Some("a84b4c76e66710@pc33".into()),
            ..template()
        };
        let want = "UDP 00:59  NONE        10.0.1.22:0        10.0.1.100:5060    10.0.2.11:5060";
        assert_eq!(
            numeric(&template),
            format!("{want}   sip                a84b4c76e66710@pc33")
        );
        let style = Style {
            numeric: true,
            names: &FewNames,
        };
        assert_eq!(row(&template, &style, false), want);
    }

    fn template() -> ConnReport {
        ConnReport {
            service: ServiceKey::Mark {
                mark: 1,
                ipv6: false,
            },
            protocol: None,
            client: endpoint("10.0.1.22", 0),
            vip: endpoint("0.0.0.1", 80),
            server: endpoint("10.0.2.11", 0),
            local: None,
            state: "NONE",
            expires: 59,
            idle_ns: 0,
            sequence: None,
            call: None,
            in_kernel: false,
        }
    }

    fn numeric(connection: &ConnReport) -> String {
        row(
            connection,
            &Style {
                numeric: true,
                names: &FewNames,
            },
            true,
        )
    }

    fn endpoint(addr: &str, port: u16) -> Endpoint {
        Endpoint::new(addr.parse::<IpAddr>().expect("an address").into(), port)
    }
}
