//! A mix of traffic, made at the start and played from memory: HTTP-like connections at every stage of their lives,
//! datagrams of a service, and packets that are nobody's.

use anyhow::Result;
use uvs_benches::{Sample, World, tcp, udp};
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::Forwarding;
use uvs_core::wire::tcp::flag::{ACK, FIN, PSH, SYN};
use uvs_forwarder::replay::{Batch, Tape};

/// The scheduler: whoever comes again gets the same server, so that a tape can be played again.
pub(crate) const SCHEDULER: &str = "sh";
/// Connections that are at the same stage, in each turn.
const ABREAST: u32 = 6;
/// Groups of connections on a tape.
const GROUPS: u32 = 500;
/// Connections on a tape.
pub(crate) const CONNECTIONS: u32 = ABREAST * GROUPS;
/// Datagrams and packets that are nobody's, in each turn.
const DATAGRAMS: u32 = 8;
const FOREIGN: u32 = 6;

/// What happens at a stage of a connection, a turn after the one before: by which port, and flags and payloads.
type Stage = (usize, &'static [(u8, usize)]);

const CLIENTS: usize = 0;
const SERVERS: usize = 1;
const SEGMENT: usize = 1380;
const STAGES: [Stage; 9] = [
    (CLIENTS, &[(SYN, 0)]),
    (SERVERS, &[(SYN | ACK, 0)]),
    (CLIENTS, &[(ACK, 0), (ACK | PSH, 120)]),
    (SERVERS, &[(ACK, 0), (ACK, SEGMENT)]),
    (CLIENTS, &[(ACK, 0)]),
    (SERVERS, &[(ACK, SEGMENT), (ACK | PSH, SEGMENT)]),
    (CLIENTS, &[(ACK, 0), (ACK | FIN, 0)]),
    (SERVERS, &[(ACK, 0), (ACK | FIN, 0)]),
    (CLIENTS, &[(ACK, 0)]),
];

/// The `n`th worker's tape, with clients that no other has.
pub(crate) fn tape(n: u32) -> Result<Tape> {
    let first = n * CONNECTIONS;
    let mut world = World::new(Forwarding::Nat, SCHEDULER, CONNECTIONS);
    let servers: Vec<Endpoint> = (0..CONNECTIONS)
        .map(|client| world.server_of(first + client))
        .collect();
    let mut turns = Vec::new();
    for turn in 0..GROUPS + narrow(STAGES.len()) - 1 {
        let mut ports: [Batch; Tape::PORTS] = Default::default();
        for (stage, (port, segments)) in (0..).zip(STAGES) {
            let Some(group) = turn.checked_sub(stage).filter(|group| *group < GROUPS) else {
                continue;
            };
            for place in group * ABREAST..(group + 1) * ABREAST {
                let client = World::client(first + place);
                let (from, to) = match port {
                    CLIENTS => (client, World::service(80)),
                    _ => (servers[place as usize], client),
                };
                let segment =
                    |(flags, payload): &(u8, usize)| frame(&tcp(from, to, *flags, *payload));
                ports[port].extend(segments.iter().map(segment));
            }
        }
        let others = turn * (DATAGRAMS + FOREIGN);
        let client = |n| World::client(first + (others + n) % CONNECTIONS);
        let query = |n| frame(&udp(client(n), World::service(53), 40));
        ports[CLIENTS].extend((0..DATAGRAMS).map(query));
        let nobody = Endpoint::new(Addr::v4([203, 0, 113, 77]), 5000);
        let foreign = |n| frame(&udp(client(n), nobody, 40));
        ports[CLIENTS].extend((DATAGRAMS..DATAGRAMS + FOREIGN).map(foreign));
        turns.push(ports);
    }
    Tape::new(turns)
}

/// Frames of a tape that are nobody's.
pub(crate) fn foreign() -> u64 {
    u64::from(FOREIGN * (GROUPS + narrow(STAGES.len()) - 1))
}

fn frame(sample: &Sample) -> (Vec<u8>, uvs_core::frame::Offload) {
    (sample.bytes().to_vec(), sample.offload())
}

/// A number of stages.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).expect("there are few stages")
}
