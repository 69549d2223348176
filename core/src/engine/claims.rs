//! Claims of other hosts to VIPs that UVS owns: an ARP packet that has such a VIP as its sender's address and
//! not a MAC address of ours (RFC 5227 §2.4), or a message of neighbour discovery that says the same. The engine only
//! notes them; the control plane yields.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Engine;
use crate::flow::Addr;
use crate::time::Instant;
use crate::trace::Recorder;
use crate::verdict::PortId;
use crate::wire::ethernet::Mac;
use crate::wire::{arp, ndp};

/// Claims to one VIP within so long are one: a flood of them must not become one of notices.
const ONCE_IN: Duration = Duration::from_secs(1);

/// Somebody else says that it has a VIP that UVS owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The VIP.
    pub vip: Addr,
    /// Where the other host has it.
    pub mac: Mac,
    /// The port by which that was heard.
    pub port: PortId,
}

/// What was claimed: as many entries as VIPs are owned, at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Claims {
    /// When one to a VIP was told last.
    last: HashMap<Addr, Instant>,
    #[serde(skip)]
    fresh: Vec<Claim>,
}

impl Claims {
    /// Forgets those to all but what is `wanted`.
    pub(super) fn retain(&mut self, wanted: impl Fn(Addr) -> bool) {
        self.last.retain(|vip, _| wanted(*vip));
    }
}

impl<R: Recorder> Engine<R> {
    /// Notes what a frame of ARP or of neighbour discovery claims.
    pub(super) fn note_claim(&mut self, now: Instant, port: PortId, frame: &[u8]) {
        let by_arp = || arp::claim(frame).map(|(vip, mac)| (Addr::v4(vip), mac));
        let by_discovery = || ndp::claim(frame).map(|(vip, mac)| (Addr::v6(vip), mac));
        let Some((vip, mac)) = by_arp().or_else(by_discovery) else {
            return;
        };
        let ours = self.routes.fib.interfaces().iter().any(|i| i.mac == mac);
        if ours || !self.desired.owns(vip) {
            return;
        }
        let claims = &mut self.claims;
        let told = claims.last.get(&vip);
        if told.is_none_or(|told| now.since(*told) >= ONCE_IN) {
            claims.last.insert(vip, now);
            claims.fresh.push(Claim { vip, mac, port });
        }
    }

    /// The claims since the last call, those to one VIP at most once a second.
    pub fn take_claims(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.claims.fresh)
    }
}
