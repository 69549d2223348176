//! Asks by ARP who has an address, without entering any cache: for VIPs that two hosts answer for, and for
//! next hops that nobody answers for.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::netdevice;
use socket2::{Domain, Socket, Type};
use uvs_core::wire::arp::{FRAME_LEN, probe, reply};
use uvs_core::wire::ethernet::ethertype;
use uvs_forwarder::sys;

use super::receive;

/// Times that each address is asked for, since a frame can be lost.
const ROUNDS: u32 = 2;
/// How long answers are waited for after each round.
const ROUND: Duration = Duration::from_millis(500);

/// Ask on an interface who has an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Question {
    /// The interface.
    pub(super) interface: String,
    /// The address.
    pub(super) target: Ipv4Addr,
}

/// Somebody has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The question.
    pub(super) to: Question,
    /// Whose MAC address it is.
    pub(super) mac: [u8; 6],
}

/// Asks everything at once, on each interface by a thread of its own. Answers are sorted, each once.
pub(super) fn who_has(questions: &[Question]) -> io::Result<Vec<Answer>> {
    let mut by_interface: BTreeMap<&str, Vec<Ipv4Addr>> = BTreeMap::new();
    for question in questions {
        let targets = by_interface.entry(&question.interface).or_default();
        targets.push(question.target);
    }
    let heard: io::Result<Vec<Vec<Answer>>> = thread::scope(|scope| {
        let asked: Vec<_> = by_interface
            .iter()
            .map(|(interface, targets)| scope.spawn(|| ask(interface, targets)))
            .collect();
        let lost = |_| Err(io::Error::other("a thread of ours panicked"));
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(lost))
            .collect()
    });
    let mut answers: Vec<Answer> = heard?.into_iter().flatten().collect();
    answers.sort_by(|a, b| (&a.to, a.mac).cmp(&(&b.to, b.mac)));
    answers.dedup();
    Ok(answers)
}

fn ask(interface: &str, targets: &[Ipv4Addr]) -> io::Result<Vec<Answer>> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let index = netdevice::name_to_index(socket.as_fd(), interface)?;
    sys::bind_packet(&socket, index, ethertype::ARP)?;
    let address = sys::packet_address(&socket)?.sll_addr;
    let [a, b, c, d, e, f, ..] = address;
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        for target in targets {
            socket.send(&probe(target.octets(), [a, b, c, d, e, f]))?;
        }
        listen(&socket, interface, targets, &mut answers)?;
    }
    Ok(answers)
}

/// Collects answers for a round's time.
fn listen(
    socket: &Socket,
    interface: &str,
    targets: &[Ipv4Addr],
    answers: &mut Vec<Answer>,
) -> io::Result<()> {
    let end = Instant::now() + ROUND;
    let mut buffer = [0; FRAME_LEN];
    while let Some(length) = receive::before(end, socket, &mut buffer)? {
        answers.extend(understood(&buffer[..length], interface, targets));
    }
    Ok(())
}

/// The answer in a frame, where it is one to us.
fn understood(frame: &[u8], interface: &str, targets: &[Ipv4Addr]) -> Option<Answer> {
    let (addr, mac) = reply(frame)?;
    let target = Ipv4Addr::from(addr);
    let interface = interface.to_owned();
    targets.contains(&target).then_some(Answer {
        to: Question { interface, target },
        mac,
    })
}
