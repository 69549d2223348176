//! Asks neighbours who has an address, by ARP or by neighbour solicitations, without entering any cache: for VIPs
//! that two hosts answer for, and for next hops that nobody answers for.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::netdevice;
use socket2::{Domain, Socket, Type};
use uvs_core::wire::ethernet::{Mac, ethertype};
use uvs_core::wire::{arp, ndp};
use uvs_forwarder::sys;
use uvs_realserver::Family;

use super::receive;

/// Times that each address is asked for, since a frame can be lost.
const ROUNDS: u32 = 2;
/// How long answers are waited for after each round.
const ROUND: Duration = Duration::from_millis(500);

/// Bytes of an answer at most: an advertisement may have options that are not asked for. What is longer is cut.
const LONGEST: usize = 512;

/// Ask on an interface who has an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Question {
    /// The interface.
    pub(super) interface: String,
    /// The address.
    pub(super) target: IpAddr,
}

/// Somebody has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The question.
    pub(super) to: Question,
    /// Whose MAC address it is.
    pub(super) mac: Mac,
}

/// Asks everything at once, on each interface and in each family by a thread of its own. Answers are sorted, each once.
pub(super) fn who_has(questions: &[Question]) -> io::Result<Vec<Answer>> {
    let mut asked: BTreeMap<(&str, Family), Vec<IpAddr>> = BTreeMap::new();
    for Question { interface, target } in questions {
        let key = (interface.as_str(), Family::of(*target));
        asked.entry(key).or_default().push(*target);
    }
    let heard: io::Result<Vec<Vec<Answer>>> = thread::scope(|scope| {
        let asking: Vec<_> = asked
            .iter()
            .map(|((interface, family), targets)| scope.spawn(|| ask(interface, *family, targets)))
            .collect();
        let lost = |_| Err(io::Error::other("a thread of ours panicked"));
        asking
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(lost))
            .collect()
    });
    let mut answers: Vec<Answer> = heard?.into_iter().flatten().collect();
    answers.sort_by(|a, b| (&a.to, a.mac).cmp(&(&b.to, b.mac)));
    answers.dedup();
    Ok(answers)
}

fn ask(interface: &str, family: Family, targets: &[IpAddr]) -> io::Result<Vec<Answer>> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    let index = netdevice::name_to_index(socket.as_fd(), interface)?;
    let protocol = match family {
        Family::Ipv4 => ethertype::ARP,
        Family::Ipv6 => ethertype::IPV6,
    };
    sys::bind_packet(&socket, index, protocol)?;
    let [a, b, c, d, e, f, ..] = sys::packet_address(&socket)?.sll_addr;
    let own = [a, b, c, d, e, f];
    let mut answers = Vec::new();
    for _ in 0..ROUNDS {
        for target in targets {
            match target {
                IpAddr::V4(target) => socket.send(&arp::probe(target.octets(), own))?,
                IpAddr::V6(target) => socket.send(&ndp::probe(target.octets(), own))?,
            };
        }
        listen(&socket, interface, targets, &mut answers)?;
    }
    Ok(answers)
}

/// Collects answers for a round's time.
fn listen(
    socket: &Socket,
    interface: &str,
    targets: &[IpAddr],
    answers: &mut Vec<Answer>,
) -> io::Result<()> {
    let end = Instant::now() + ROUND;
    let mut buffer = [0; LONGEST];
    while let Some(length) = receive::before(end, socket, &mut buffer)? {
        let told = told(&buffer[..length]).filter(|(target, _)| targets.contains(target));
        answers.extend(told.map(|(target, mac)| Answer {
            to: Question {
                interface: interface.to_owned(),
                target,
            },
            mac,
        }));
    }
    Ok(())
}

/// The address and the MAC address that a frame tells, where it is an answer.
fn told(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let by_arp = arp::reply(frame).map(|(addr, mac)| (addr.into(), mac));
    by_arp.or_else(|| ndp::reply(frame).map(|(addr, mac)| (addr.into(), mac)))
}
