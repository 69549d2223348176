//! A daemon in memory: the real table, and for the recording's traffic the counters and connections
//! that the kernel had after it.

use std::path::PathBuf;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{ServiceKey, ServiceSpec};

use crate::control::client::{CallError, Daemon};
use crate::control::protocol::{
    Command, ConnectionStatus, Data, Errno, Refusal, ServerStatus, ServiceStatus, Stats,
};
use crate::control::table::Table;
use crate::plugins::Schedulers;

pub(super) struct Memory {
    pub(super) table: Table,
    /// How many it was sent.
    pub(super) batches: usize,
    absent: bool,
    connections: Vec<ConnectionStatus>,
    /// Totals and rates by the service's port and the server's last byte, 0 for the service itself.
    counters: Vec<(u16, u8, Stats, Stats)>,
}

impl Default for Memory {
    fn default() -> Self {
        let table = Table::new(Schedulers::builtin());
        Self {
            table,
            batches: 0,
            absent: false,
            connections: Vec::new(),
            counters: Vec::new(),
        }
    }
}

impl Memory {
    /// A daemon that is not there.
    pub(super) fn absent() -> Self {
        Self {
            absent: true,
            ..Self::default()
        }
    }

    /// The frames of the session "traffic" have passed and an estimator tick after them.
    pub(super) fn see_traffic(&mut self) {
        let stats = |[connections, in_packets, out_packets, in_bytes, out_bytes]: [u64; 5]| Stats {
            connections,
            in_packets,
            out_packets,
            in_bytes,
            out_bytes,
        };
        let rows = [
            (80, 0, [6, 18, 5, 5720, 7200], [1, 2, 0, 536, 675]),
            (80, 11, [4, 14, 4, 4560, 5760], [0, 1, 0, 427, 540]),
            (80, 12, [2, 4, 1, 1160, 1440], [0, 0, 0, 109, 135]),
            (443, 0, [1, 1, 0, 40, 0], [0, 0, 0, 4, 0]),
            (443, 13, [1, 1, 0, 40, 0], [0, 0, 0, 4, 0]),
            (53, 0, [5, 5, 0, 165, 0], [0, 0, 0, 15, 0]),
            (53, 11, [5, 5, 0, 165, 0], [0, 0, 0, 15, 0]),
        ];
        self.counters = rows
            .map(|(port, host, totals, rates)| (port, host, stats(totals), stats(rates)))
            .to_vec();
        let tcp = [
            (40000, 80, 12, "SYN_RECV", 56),
            (40001, 80, 11, "ESTABLISHED", 896),
            (40002, 80, 12, "ESTABLISHED", 896),
            (40003, 80, 11, "CLOSE_WAIT", 56),
            (40004, 80, 11, "CLOSE", 6),
            (40005, 80, 11, "ESTABLISHED", 896),
            (41000, 443, 13, "SYN_RECV", 56),
        ];
        let tcp = tcp.map(|(client, vip, server, state, expires)| {
            connection(Protocol::Tcp, (10, client), vip, server, state, expires)
        });
        let udp = |state, port| {
            move |client| connection(Protocol::Udp, (client, port), 53, 11, state, 296)
        };
        let clients = [20, 21, 22, 23, 24];
        self.connections = tcp.into_iter().collect();
        self.connections.extend(clients.map(udp("UDP", 5000)));
        self.connections.extend(clients.map(udp("NONE", 0)));
    }

    fn services(&self, only: Option<ServiceKey>) -> Vec<ServiceStatus> {
        let services = self
            .table
            .services()
            .iter()
            .filter(|s| only.is_none_or(|k| s.key == k));
        services.map(|service| self.service(service)).collect()
    }

    fn service(&self, service: &ServiceSpec) -> ServiceStatus {
        let port = service.key.vip().port;
        let servers = service.servers.iter().map(|spec| {
            let here = |c: &&ConnectionStatus| c.vip.port == port && c.server == spec.endpoint;
            let count = |state: fn(&str) -> bool| {
                let found = self
                    .connections
                    .iter()
                    .filter(here)
                    .filter(|c| state(&c.state));
                u32::try_from(found.count()).expect("few")
            };
            let (stats, rates) = self.counters(port, spec.endpoint.addr.0[15]);
            ServerStatus {
                spec: *spec,
                local: false,
                active: count(is_active),
                inactive: count(|s| !is_active(s) && s != "NONE"),
                persistent: count(|s| s == "NONE"),
                open: 0,
                draining: None,
                stats,
                rates,
            }
        });
        let servers = servers.collect();
        let (stats, rates) = self.counters(port, 0);
        let spec = ServiceSpec {
            servers: Vec::new(),
            ..service.clone()
        };
        ServiceStatus {
            spec,
            stats,
            rates,
            servers,
        }
    }

    fn counters(&self, port: u16, host: u8) -> (Stats, Stats) {
        let mut rows = self.counters.iter();
        rows.find(|c| (c.0, c.1) == (port, host))
            .map_or_else(Default::default, |c| (c.2, c.3))
    }

    fn zero(&mut self, key: Option<ServiceKey>) {
        let port = key.map(|k| k.vip().port);
        for (_, _, stats, rates) in self
            .counters
            .iter_mut()
            .filter(|c| port.is_none_or(|p| c.0 == p))
        {
            (*stats, *rates) = Default::default();
        }
    }
}

impl Daemon for Memory {
    fn call(&mut self, command: Command) -> Result<Data, CallError> {
        if self.absent {
            return Err(CallError::Absent(PathBuf::from("/run/uvs/control.sock")));
        }
        if let Command::Batch(commands) = &command {
            self.batches += 1;
            return Ok(Data::Outcomes(self.table.apply_all(commands)));
        }
        if self.table.apply(&command).map_err(CallError::Refused)? {
            return Ok(Data::Done);
        }
        if let Command::Zero(Some(key)) | Command::ListServices(Some(key)) = &command
            && self.table.service(key).is_none()
        {
            let message = format!("{key}: no such service");
            return Err(CallError::Refused(Refusal {
                errno: Errno::NotFound,
                message,
            }));
        }
        Ok(match command {
            Command::Zero(key) => {
                self.zero(key);
                Data::Done
            }
            Command::ListServices(key) => Data::Services {
                table_size: 4096,
                services: self.services(key),
            },
            Command::ListConnections => Data::Connections(self.connections.clone()),
            Command::GetTimeouts => Data::Timeouts(self.table.timeouts()),
            other => unreachable!("ipvsadm does not send {other:?}"),
        })
    }
}

fn connection(
    protocol: Protocol,
    client: (u8, u16),
    vip: u16,
    server: u8,
    state: &str,
    expires: u32,
) -> ConnectionStatus {
    ConnectionStatus {
        protocol: Some(protocol),
        client: Endpoint::new(Addr::v4([10, 0, 1, client.0]), client.1),
        vip: Endpoint::new(Addr::v4([10, 0, 1, 100]), vip),
        server: Endpoint::new(Addr::v4([10, 0, 2, server]), vip),
        local: None,
        state: state.to_owned(),
        expires,
    }
}

fn is_active(state: &str) -> bool {
    matches!(state, "SYN_RECV" | "ESTABLISHED")
}
