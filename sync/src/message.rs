//! What is said of one connection.

use uvs_core::flow::{Addr, Endpoint};

use crate::bytes::Bytes;

/// Bits of [`Message::flags`], those that directors tell each other (`IP_VS_CONN_F_*` of linux/ip_vs.h).
pub mod flag {
    /// How packets reach the server: 0 masquerading, 1 the director itself, 2 tunnel, 3 route, 4 bypass.
    pub const METHOD: u32 = 0x7;
    /// The entry is known from another director.
    pub const SYNC: u32 = 0x20;
    /// It is in the sender's table; never told.
    pub const HASHED: u32 = 0x40;
    /// Replies have not been seen.
    pub const NO_OUTPUT: u32 = 0x80;
    /// Counts as inactive at its server.
    pub const INACTIVE: u32 = 0x100;
    /// The server's sequence numbers are shifted.
    pub const OUT_SEQ: u32 = 0x200;
    /// The client's sequence numbers are shifted.
    pub const IN_SEQ: u32 = 0x400;
    /// The client's port is not known yet.
    pub const NO_CLIENT_PORT: u32 = 0x800;
    /// A persistence template.
    pub const TEMPLATE: u32 = 0x1000;

    /// Either side's sequence numbers are shifted: the message says by how much.
    pub const SEQ: u32 = OUT_SEQ | IN_SEQ;
    /// What a backup takes up of the flags (`IP_VS_CONN_F_BACKUP_MASK`).
    pub const BACKUP: u32 = METHOD | NO_OUTPUT | INACTIVE | SEQ | NO_CLIENT_PORT | TEMPLATE;
}

/// How one direction's sequence numbers are shifted (`struct ip_vs_seq`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    /// From this number on,
    pub from: u32,
    /// by so much;
    pub by: u32,
    /// before it by so much.
    pub before: u32,
}

/// The longest text or data of a persistence engine (`IP_VS_PENAME_MAXLEN`, `IP_VS_PEDATA_MAXLEN`), bytes.
pub(crate) const ENGINE_NAME: usize = 16;
pub(crate) const ENGINE_DATA: usize = 255;
/// The name of the persistence engine that there is.
pub(crate) const SIP: &[u8] = b"sip";

/// What a director says of a connection or of a persistence template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// IP protocol number; 0 for a template of a firewall mark.
    pub protocol: u8,
    /// [`flag`]s.
    pub flags: u32,
    /// The state, by the protocol's own numbers.
    pub state: u16,
    /// The client; port 0 in a template.
    pub client: Endpoint,
    /// The VIP. A template of a firewall mark has the mark as its address, IPv4 or the last bytes of IPv6.
    pub vip: Endpoint,
    /// The real server.
    pub server: Endpoint,
    /// The service's firewall mark, 0 for none. Version 1 only.
    pub mark: u32,
    /// The state's whole time-out, seconds; 0 where it is not told. Version 1 only.
    pub timeout: u32,
    /// How sequence numbers are shifted, the client's and the server's.
    pub sequence: Option<[Sequence; 2]>,
    /// Name of the persistence engine, empty for none. Version 1 only.
    pub engine: Vec<u8>,
    /// What that engine found in the client's packet, empty for nothing. Version 1 only.
    pub engine_data: Vec<u8>,
    /// FULLNAT's local endpoint, of the server's family: this project's own, which kernels skip. Version 1 only.
    pub local: Option<Endpoint>,
    /// Milliseconds since its last packet, as who asks for all is told: this project's own too. Version 1 only.
    pub idle: Option<u32>,
    /// How much later than the client's its timestamps are at the server: this project's own too. Version 1 only.
    pub timestamps: Option<u32>,
}

impl Message {
    /// What each message says, and none of what only some do. Of the flags it has those that are taken up.
    pub(crate) const fn new(
        protocol: u8,
        flags: u32,
        state: u16,
        [client, vip, server]: [Endpoint; 3],
    ) -> Self {
        Self {
            protocol,
            flags: flags & flag::BACKUP,
            state,
            client,
            vip,
            server,
            mark: 0,
            timeout: 0,
            sequence: None,
            engine: Vec::new(),
            engine_data: Vec::new(),
            local: None,
            idle: None,
            timestamps: None,
        }
    }

    /// The Call-ID that the persistence engine sip has found; `None` where the data are of another engine.
    pub fn call(&self) -> Option<&str> {
        let is_sip = self.engine == SIP && !self.engine_data.is_empty();
        let text = std::str::from_utf8(&self.engine_data).ok();
        text.filter(|_| is_sip)
    }

    /// Whether it is of a template.
    pub const fn is_template(&self) -> bool {
        self.flags & flag::TEMPLATE != 0
    }

    /// Whether the addresses are IPv6. Both families in one message there are not, but for [`Message::local`].
    pub const fn is_v6(&self) -> bool {
        !self.client.addr.is_v4()
    }
}

/// Ports of client, VIP and server, in the order of the wire.
pub(crate) type Ports = [u16; 3];

pub(crate) fn ports(b: &mut Bytes<'_>) -> Option<Ports> {
    Some([b.u16()?, b.u16()?, b.u16()?])
}

/// Client, VIP and server: IPv4 addresses.
pub(crate) fn endpoints_v4(b: &mut Bytes<'_>, ports: Ports) -> Option<[Endpoint; 3]> {
    let addrs = [b.array()?, b.array()?, b.array()?];
    let ends = [0, 1, 2].map(|i| Endpoint::new(Addr::v4(addrs[i]), ports[i]));
    Some(ends)
}

/// Client, VIP and server: IPv6 addresses.
pub(crate) fn endpoints_v6(b: &mut Bytes<'_>, ports: Ports) -> Option<[Endpoint; 3]> {
    let addrs = [b.array()?, b.array()?, b.array()?];
    let ends = [0, 1, 2].map(|i| Endpoint::new(Addr(addrs[i]), ports[i]));
    Some(ends)
}

/// Bytes of both directions' [`Sequence`]s (`struct ip_vs_sync_conn_options`).
pub(crate) const SEQUENCES: usize = 24;

pub(crate) fn sequences(b: &mut Bytes<'_>) -> Option<[Sequence; 2]> {
    let mut one = || {
        Some(Sequence {
            from: b.u32()?,
            by: b.u32()?,
            before: b.u32()?,
        })
    };
    Some([one()?, one()?])
}

pub(crate) fn put_sequences(out: &mut Vec<u8>, sequences: &[Sequence; 2]) {
    for s in sequences {
        for field in [s.from, s.by, s.before] {
            out.extend(field.to_be_bytes());
        }
    }
}

pub(crate) fn put_ports(out: &mut Vec<u8>, m: &Message) {
    for end in [m.client, m.vip, m.server] {
        out.extend(end.port.to_be_bytes());
    }
}

pub(crate) fn put_addresses(out: &mut Vec<u8>, m: &Message) {
    for end in [m.client, m.vip, m.server] {
        put_address(out, end.addr);
    }
}

pub(crate) fn put_address(out: &mut Vec<u8>, addr: Addr) {
    match addr.as_v4() {
        Some(bytes) => out.extend(bytes),
        None => out.extend(addr.0),
    }
}
