//! Between messages and what the engine says and takes.

use std::time::Duration;

use uvs_core::conn;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::peer::{Shifts, TakenUp, Told};
use uvs_core::service::Forwarding;

use crate::message::{Message, SIP, Sequence, flag};

/// The method's number in [`flag::METHOD`] (`IP_VS_CONN_F_MASQ` and so on).
const fn number_of(method: Forwarding) -> u32 {
    match method {
        // FULLNAT is a NAT that kernels do not have; the option with the local endpoint says so.
        Forwarding::Nat | Forwarding::FullNat => 0,
        Forwarding::Tunnel => 2,
        Forwarding::Dr => 3,
    }
}

impl Message {
    /// What is said of a connection. `None` where there is no form for it: one between the families.
    pub fn of(told: &Told) -> Option<Self> {
        let c = &told.conn;
        if c.ends.client.addr.is_v4() != c.ends.server.addr.is_v4() {
            return None;
        }
        let template = c.has(conn::TEMPLATE);
        let masquerades = number_of(told.method) == 0;
        let flag_if = |on: bool, flag: u32| if on { flag } else { 0 };
        // The kernel's templates are never looked at: inactive, and their replies unseen.
        let no_output = c.has(conn::NO_OUTPUT) || template && !masquerades;
        let flags = number_of(told.method)
            | flag_if(told.taken_up, flag::SYNC)
            | flag_if(no_output, flag::NO_OUTPUT)
            | flag_if(c.has(conn::INACTIVE) || template, flag::INACTIVE)
            | flag_if(template, flag::TEMPLATE)
            | flag_if(told.shifts.bytes.is_some(), flag::IN_SEQ);
        let marked = c.has(conn::MARKED);
        Some(Self {
            protocol: if marked { 0 } else { c.protocol as u8 },
            flags,
            state: c.state.into(),
            client: c.ends.client,
            vip: match marked && !c.ends.client.addr.is_v4() {
                true => Endpoint::new(widened(c.ends.vip.addr), c.ends.vip.port),
                false => c.ends.vip,
            },
            server: c.ends.server,
            mark: told.mark,
            timeout: c.timeout,
            sequence: told.shifts.bytes.map(sequences),
            engine: match told.call {
                Some(_) => SIP.to_vec(),
                None => Vec::new(),
            },
            engine_data: told.call.as_deref().unwrap_or_default().into(),
            local: c.ends.local_end(),
            idle: told.idle.map(millis),
            timestamps: told.shifts.timestamps,
        })
    }

    /// What there is for an engine to take up.
    pub fn taken_up(&self) -> TakenUp {
        let has = |flag| self.flags & flag != 0;
        let method = match self.flags & flag::METHOD {
            0 if self.local.is_some() => Some(Forwarding::FullNat),
            0 => Some(Forwarding::Nat),
            2 => Some(Forwarding::Tunnel),
            3 => Some(Forwarding::Dr),
            _ => None,
        };
        let marked = self.protocol == 0 && self.is_template();
        TakenUp {
            protocol: Protocol::from_number(self.protocol),
            client: self.client,
            vip: match marked && self.is_v6() {
                true => Endpoint::new(narrowed(self.vip.addr), self.vip.port),
                false => self.vip,
            },
            server: self.server,
            local: self.local,
            method,
            template: self.is_template(),
            no_output: has(flag::NO_OUTPUT),
            inactive: has(flag::INACTIVE),
            state: u8::try_from(self.state).unwrap_or_default(),
            timeout: self.timeout,
            mark: self.mark,
            call: self.call().filter(|_| self.is_template()).map(Into::into),
            idle: self.idle.map(|ms| Duration::from_millis(ms.into())),
            shifts: Shifts {
                bytes: self.sequence.filter(|_| has(flag::IN_SEQ)).map(shift),
                timestamps: self.timestamps,
            },
        }
    }
}

/// How the client's numbers are shifted: from the first byte behind its SYN on. The server's are not.
fn sequences((start, len): (u32, u32)) -> [Sequence; 2] {
    let client = Sequence {
        from: start.wrapping_sub(1),
        by: len,
        before: 0,
    };
    [client, Sequence::default()]
}

/// The reverse of [`sequences`].
fn shift([client, _]: [Sequence; 2]) -> (u32, u32) {
    (client.from.wrapping_add(1), client.by)
}

/// Whole milliseconds, rounded up: what is told of is never made newer than it is.
fn millis(time: Duration) -> u32 {
    let rounded = time + Duration::from_micros(999);
    u32::try_from(rounded.as_millis()).unwrap_or(u32::MAX)
}

/// A mark as an IPv6 template's VIP has it: in the first four bytes (`union nf_inet_addr`).
fn widened(mark: Addr) -> Addr {
    let mut bytes = [0; 16];
    if let Some(mark) = mark.as_v4() {
        bytes[..4].copy_from_slice(&mark);
    }
    Addr(bytes)
}

/// The reverse of [`widened`].
const fn narrowed(vip: Addr) -> Addr {
    let [a, b, c, d, ..] = vip.0;
    Addr::v4([a, b, c, d])
}
