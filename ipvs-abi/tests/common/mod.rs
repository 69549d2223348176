//! A director that is a table in memory, and what programs send it, as bytes.

#![allow(
    dead_code,
    reason = "shared by several tests, each of which uses a part"
)]

use uvs_control::protocol::{
    Answers, Change, Errno, Lists, Refusal, ServerState, ServerStatus, ServiceStatus, Services,
    SyncDaemon, SyncNumbers, SyncStatus, Traffic, ask,
};
use uvs_control::table::Table;
use uvs_core::counters::Stats;
use uvs_core::engine::ConnReport;
use uvs_core::numbers::{ServerNumbers, ServiceNumbers};
use uvs_core::service::{ServiceKey, ServiceSpec};
use uvs_core::snapshot::Timeouts;
use uvs_ipvs_abi::conversation::Conversation;
use uvs_ipvs_carried::FAMILY;

/// Connections in one part of a listing.
const PAGE: usize = 2;

/// What every service and server counts.
pub(crate) const COUNTED: Stats = Stats {
    connections: 0x1_0000_0002,
    in_packets: 3,
    out_packets: 4,
    in_bytes: 0x5_0000_0000,
    out_bytes: 6,
};

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) table: Table,
    pub(crate) zeroed: Vec<Option<ServiceKey>>,
    pub(crate) connections: Vec<ConnReport>,
}

impl Answers<Change> for Memory {
    fn answer(&mut self, change: Change) -> Result<(), Refusal> {
        self.table.apply(&change)
    }
}

impl Answers<ask::Zero> for Memory {
    fn answer(&mut self, ask::Zero(key): ask::Zero) -> Result<(), Refusal> {
        if let Some(key) = key {
            self.table.find(&key)?;
        }
        self.zeroed.push(key);
        Ok(())
    }
}

impl Lists<ask::ListServices> for Memory {
    /// One service in each part.
    fn part(
        &mut self,
        ask::ListServices(key): &ask::ListServices,
        from: u64,
    ) -> Result<(Services, Option<u64>), Refusal> {
        if let Some(key) = key {
            self.table.find(key)?;
        }
        let from = usize::try_from(from).expect("small");
        let wanted = self.table.services().iter();
        let mut wanted = wanted.filter(|s| key.is_none_or(|key| s.key == key));
        let services = Services {
            table_size: 4096,
            services: wanted
                .by_ref()
                .skip(from)
                .take(1)
                .map(|spec| status(spec))
                .collect(),
        };
        let more = wanted.next().is_some();
        Ok((services, more.then_some(from as u64 + 1)))
    }
}

impl Answers<ask::GetTimeouts> for Memory {
    fn answer(&mut self, _: ask::GetTimeouts) -> Result<Timeouts, Refusal> {
        Ok(self.table.timeouts())
    }
}

impl Answers<ask::StartSync> for Memory {
    fn answer(&mut self, ask::StartSync(wanted): ask::StartSync) -> Result<(), Refusal> {
        if wanted.interface == "nosuch0" {
            return Err(Refusal {
                errno: Errno::NoDevice,
                message: "nosuch0: no such interface".to_owned(),
            });
        }
        self.table.start_sync(wanted.on(1500))
    }
}

impl Answers<ask::StopSync> for Memory {
    fn answer(&mut self, ask::StopSync(role): ask::StopSync) -> Result<(), Refusal> {
        self.table.stop_sync(role)
    }
}

impl Answers<ask::ListSync> for Memory {
    fn answer(&mut self, _: ask::ListSync) -> Result<Vec<SyncStatus>, Refusal> {
        let status = |daemon: &SyncDaemon| SyncStatus {
            daemon: daemon.clone(),
            numbers: SyncNumbers::default(),
        };
        Ok(self.table.sync_daemons().iter().map(status).collect())
    }
}

impl Answers<ask::Traffic> for Memory {
    fn answer(&mut self, _: ask::Traffic) -> Result<Traffic, Refusal> {
        Ok(Traffic {
            stats: COUNTED,
            rates: COUNTED,
        })
    }
}

impl Lists<ask::ListConnections> for Memory {
    fn part(
        &mut self,
        _: &ask::ListConnections,
        from: u64,
    ) -> Result<(Vec<ConnReport>, Option<u64>), Refusal> {
        let from = usize::try_from(from).expect("small");
        let next = from + PAGE;
        let some = self.connections.iter().skip(from).take(PAGE).cloned();
        let more = next < self.connections.len();
        Ok((some.collect(), more.then_some(next as u64)))
    }
}

fn status(spec: &ServiceSpec) -> ServiceStatus {
    let servers = spec.servers.iter().map(|server| ServerStatus {
        spec: *server,
        local: false,
        state: ServerState::Up,
        numbers: ServerNumbers {
            active: 7,
            inactive: 8,
            persistent: 9,
            stats: COUNTED,
            ..ServerNumbers::default()
        },
        rates: COUNTED,
    });
    ServiceStatus {
        spec: ServiceSpec {
            servers: Vec::new(),
            ..spec.clone()
        },
        numbers: ServiceNumbers {
            stats: COUNTED,
            ..ServiceNumbers::default()
        },
        rates: COUNTED,
        servers: servers.collect(),
        matches: Vec::new(),
    }
}

/// REQUEST and ACK, as libnl sends.
pub(crate) const ACK: u16 = 5;
/// REQUEST, ACK and DUMP.
pub(crate) const DUMP: u16 = 0x305;

/// A message of a family with flags.
pub(crate) fn message(family: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + payload.len()).expect("short");
    [
        &length.to_ne_bytes()[..],
        &family.to_ne_bytes(),
        &flags.to_ne_bytes(),
        b"\x07\0\0\0PORT",
        payload,
    ]
    .concat()
}

/// All that is answered to a datagram.
pub(crate) fn answers(memory: &mut Memory, datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut conversation = Conversation::new(true);
    conversation.hear(datagram.to_vec());
    std::iter::from_fn(|| conversation.answer(memory))
        .flatten()
        .collect()
}

/// The errno that a request of IPVS's is answered with, 0 where it is carried out.
pub(crate) fn errno(memory: &mut Memory, payload: &[u8]) -> i32 {
    let answers = answers(memory, &message(FAMILY, ACK, payload));
    let [answer] = &answers[..] else {
        panic!("{answers:x?}");
    };
    assert_eq!(answer[4..8], [2, 0, 0, 0], "NLMSG_ERROR");
    -i32::from_ne_bytes(*answer[16..].first_chunk().expect("a number"))
}

/// Bytes from digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits
        .bytes()
        .filter(|b| !b.is_ascii_whitespace())
        .collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(text, 16).expect("digits")
    };
    digits.chunks(2).map(pair).collect()
}
