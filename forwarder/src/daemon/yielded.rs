//! Owned VIPs that another host claims. Two hosts that answer for one address split its clients at random, and
//! of the two it is the one without the address on an interface that can be wrong without harm: UVS yields at
//! once (RFC 5227 §2.4 a; RFC 4862 §5.4.5 would have it give the address up for good). It asks for the address as before a
//! first use (§2.1.1, RFC 4862 §5.4.2), and takes it up again when nobody has answered for so many questions.

use std::collections::BTreeMap;

use uvs_control::protocol::YieldedVip;
use uvs_core::engine::Claim;
use uvs_core::flow::Addr;
use uvs_core::verdict::PortId;
use uvs_core::wire::ethernet::{Mac, mac_text};
use uvs_core::wire::{arp, ndp};

use super::Daemon;

/// Questions without an answer, one a round (2 s), before the VIP is taken up again (PROBE_NUM, RFC 5227 §1.1).
const QUESTIONS: u32 = 3;

/// Who claims a VIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Other {
    mac: Mac,
    port: PortId,
    /// Questions asked since it was heard last.
    asked: u32,
}

/// The VIPs that another host claims.
#[derive(Debug, Default)]
pub(super) struct Yielded(BTreeMap<Addr, Other>);

impl Yielded {
    /// Notes a claim; whether the VIP was ours until now.
    fn claimed(&mut self, claim: &Claim) -> bool {
        let Claim { vip, mac, port } = *claim;
        let asked = 0;
        self.0.insert(vip, Other { mac, port, asked }).is_none()
    }

    /// What is to be asked now, and the VIPs whose other host has been silent for long enough.
    fn round(&mut self) -> (Vec<(Addr, PortId)>, Vec<Addr>) {
        let silent = self.0.iter().filter(|(_, other)| other.asked >= QUESTIONS);
        let silent: Vec<Addr> = silent.map(|(vip, _)| *vip).collect();
        for vip in &silent {
            self.0.remove(vip);
        }
        let asked = self.0.iter_mut().map(|(vip, other)| {
            other.asked += 1;
            (*vip, other.port)
        });
        (asked.collect(), silent)
    }

    /// Forgets those that are not owned any more.
    pub(super) fn retain(&mut self, owned: &[Addr]) {
        self.0.retain(|vip, _| owned.contains(vip));
    }

    /// The VIPs.
    pub(super) fn vips(&self) -> Vec<Addr> {
        self.0.keys().copied().collect()
    }

    /// The VIPs with who claims them, by the interfaces' names.
    pub(super) fn list(&self, interfaces: &[String]) -> Vec<YieldedVip> {
        let yielded = |(vip, other): (&Addr, &Other)| YieldedVip {
            vip: *vip,
            mac: mac_text(other.mac),
            interface: name(interfaces, other.port),
        };
        self.0.iter().map(yielded).collect()
    }
}

impl Daemon {
    /// Another host claims a VIP: it is neither announced nor answered for once
    /// [`Daemon::follow_yielded`] was called, which must be where this is `true`.
    pub(super) fn yield_to(&mut self, claim: &Claim) -> bool {
        if !self.unassigned.owned.contains(&claim.vip) || !self.yielded.claimed(claim) {
            return false;
        }
        tracing::warn!(
            "{} on {} claims the owned VIP {}: UVS neither announces it nor answers for it until nobody else has it",
            mac_text(claim.mac),
            name(&self.interfaces, claim.port),
            claim.vip,
        );
        true
    }

    /// Asks for the VIPs that other hosts claim, and takes up those that nobody answers for.
    pub(super) fn ask_for_yielded(&mut self) {
        let (questions, silent) = self.yielded.round();
        let fib = self.mirror.fib();
        for (vip, port) in questions {
            if let Some(interface) = fib.interface(port) {
                let frame = match vip.as_v4() {
                    Some(vip) => arp::probe(vip, interface.mac).to_vec(),
                    None => ndp::probe(vip.v6_octets(), interface.mac).to_vec(),
                };
                self.workers.send(port, frame);
            }
        }
        for vip in &silent {
            tracing::info!(
                "nobody else has the owned VIP {vip} any more: it is announced and answered for again"
            );
        }
        if !silent.is_empty() {
            self.follow_yielded();
        }
    }

    /// Puts in force which VIPs are yielded.
    pub(super) fn follow_yielded(&mut self) {
        if let Err(e) = self.put_in_force() {
            tracing::error!("after a claim of another host's: {}", e.message);
        }
    }
}

fn name(interfaces: &[String], port: PortId) -> String {
    let name = interfaces.get(usize::from(port.0));
    name.map_or_else(|| format!("port {}", port.0), Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Addr = Addr::v4([10, 0, 0, 1]);
    const CLAIM: Claim = Claim {
        vip: VIP,
        mac: [2, 0, 0, 0, 0, 9],
        port: PortId(1),
    };

    #[test]
    fn a_vip_is_taken_up_again_when_three_questions_are_unanswered() {
        let mut yielded = Yielded::default();
        let asks = (vec![(VIP, PortId(1))], Vec::new());
        assert!(yielded.claimed(&CLAIM));
        assert_eq!(yielded.round(), asks);
        assert_eq!(yielded.round(), asks);
        assert!(!yielded.claimed(&CLAIM), "it answers");
        for _ in 0..QUESTIONS {
            assert_eq!(yielded.round(), asks);
            assert_eq!(yielded.vips(), [VIP]);
        }
        assert_eq!(yielded.round(), (Vec::new(), vec![VIP]));
        assert_eq!(yielded.vips(), []);
        assert!(yielded.claimed(&CLAIM), "a new dispute");
    }

    #[test]
    fn what_is_owned_no_more_is_forgotten() {
        let mut yielded = Yielded::default();
        yielded.claimed(&CLAIM);
        let told = yielded.list(&["eth0".to_owned(), "eth1".to_owned()]);
        assert_eq!(told[0].to_string(), "10.0.0.1 to 02:00:00:00:00:09 on eth1");
        yielded.retain(&[Addr::v4([10, 0, 0, 2])]);
        assert_eq!(yielded.vips(), []);
    }
}
