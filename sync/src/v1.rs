//! Version 1: an entry with its size, 36 bytes for IPv4 and 72 for IPv6, and options behind it
//! (`union ip_vs_sync_conn`). Entries begin at multiples of four.

use uvs_core::flow::{Addr, Endpoint};
use uvs_core::narrow;

use crate::bytes::Bytes;
use crate::message::{self, Message, flag};
use crate::reader::Refused;

/// Bytes before the first entry.
pub(crate) const HEADER: usize = 8;
/// Bytes of an IPv4 entry: what a datagram must have room for.
const MIN_LEN: usize = 36;
/// An entry's type: its addresses are IPv6 (`STYPE_F_INET6`).
const TYPE_V6: u8 = 1;
/// The low bits of an entry's version and size that are the size (`SVER_MASK`).
const SIZE: u16 = 0x0fff;
/// An entry's version (`SVER_SHIFT`).
const VERSION_SHIFT: u16 = 12;

/// Types of options (`IPVS_OPT_*`).
mod option {
    pub(super) const SEQUENCE: u8 = 1;
    pub(super) const ENGINE_DATA: u8 = 2;
    pub(super) const ENGINE_NAME: u8 = 3;
    /// A reader that does not know an option with this bit skips it (`IPVS_OPT_F_PARAM`); one without it makes
    /// it refuse the entry.
    pub(super) const SKIPPABLE: u8 = 0x40;
    /// Our own: FULLNAT's local port and address.
    pub(super) const LOCAL: u8 = SKIPPABLE | 0x15;
    /// Our own: milliseconds since the last packet.
    pub(super) const IDLE: u8 = SKIPPABLE | 0x16;
    /// Our own: what is added to the client's timestamps.
    pub(super) const TIMESTAMPS: u8 = SKIPPABLE | 0x17;
}

/// The header of a datagram of this many bytes.
pub(crate) fn header(count: u8, syncid: u8, size: u16) -> [u8; HEADER] {
    let [high, low] = size.to_be_bytes();
    [0, syncid, high, low, count, 1, 0, 0]
}

/// Puts an entry behind `out`, which ends at a multiple of four from the header's end.
pub(crate) fn put(out: &mut Vec<u8>, m: &Message) {
    let begin = out.len();
    out.extend([u8::from(m.is_v6()) * TYPE_V6, m.protocol, 0, 0]);
    let flags = match m.sequence {
        Some(_) => m.flags,
        None => m.flags & !flag::SEQ,
    };
    out.extend((flags & !flag::HASHED).to_be_bytes());
    out.extend(m.state.to_be_bytes());
    message::put_ports(out, m);
    out.extend(m.mark.to_be_bytes());
    out.extend(m.timeout.to_be_bytes());
    message::put_addresses(out, m);
    if let Some(sequence) = m.sequence.filter(|_| flags & flag::SEQ != 0) {
        out.extend([option::SEQUENCE, narrow::to_u8(message::SEQUENCES)]);
        message::put_sequences(out, &sequence);
    }
    put_option(out, option::ENGINE_DATA, &m.engine_data);
    put_option(out, option::ENGINE_NAME, &m.engine);
    if let Some(local) = m.local {
        let mut data = local.port.to_be_bytes().to_vec();
        message::put_address(&mut data, local.addr);
        put_option(out, option::LOCAL, &data);
    }
    if let Some(idle) = m.idle {
        put_option(out, option::IDLE, &idle.to_be_bytes());
    }
    if let Some(by) = m.timestamps {
        put_option(out, option::TIMESTAMPS, &by.to_be_bytes());
    }
    let size = narrow::to_u16(out.len() - begin) & SIZE;
    out[begin + 2..begin + 4].copy_from_slice(&size.to_be_bytes());
}

/// An option, where there is something to say.
fn put_option(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    let len = data.len().min(usize::from(u8::MAX));
    if len > 0 {
        out.extend([kind, narrow::to_u8(len)]);
        out.extend(&data[..len]);
    }
}

/// Takes the next entry. What is wrong with its frame makes all that follow unreadable ([`Refused::is_final`]).
pub(crate) fn take(b: &mut Bytes<'_>) -> Result<Message, Refused> {
    if b.0.len() < MIN_LEN {
        return Err(Refused::Truncated);
    }
    let version_and_size = u16::from_be_bytes([b.0[2], b.0[3]]);
    let size = usize::from(version_and_size & SIZE);
    let entry = b.0.get(..size).ok_or(Refused::Truncated)?;
    let version = version_and_size >> VERSION_SHIFT;
    if version != 0 {
        return Err(Refused::EntryVersion(version));
    }
    let message = read(Bytes(entry));
    if message.as_ref().err().is_none_or(|r| !r.is_final()) {
        let padded = size.next_multiple_of(4).min(b.0.len());
        b.0 = &b.0[padded..];
    }
    message
}

fn read(mut b: Bytes<'_>) -> Result<Message, Refused> {
    let mut message = fixed(&mut b)?;
    while !b.0.is_empty() {
        let (kind, len) = b.u8().zip(b.u8()).ok_or(Refused::Option)?;
        let data = match len {
            0 => return Err(Refused::Option),
            _ => b.take(usize::from(len)).ok_or(Refused::Option)?,
        };
        take_option(&mut message, kind, data)?;
    }
    Ok(message)
}

/// What each entry has before its options.
fn fixed(b: &mut Bytes<'_>) -> Result<Message, Refused> {
    let mut head = || Some((b.u8()?, b.u8()?, b.u16()?, b.u32()?, b.u16()?));
    let (kind, protocol, _, flags, state) = head().ok_or(Refused::Truncated)?;
    let v6 = match kind {
        0 => false,
        _ if kind & TYPE_V6 != 0 => true,
        _ => return Err(Refused::Type(kind)),
    };
    let mut rest = || {
        let ports = message::ports(b)?;
        let (mark, timeout) = (b.u32()?, b.u32()?);
        let ends = match v6 {
            true => message::endpoints_v6(b, ports)?,
            false => message::endpoints_v4(b, ports)?,
        };
        Some((mark, timeout, ends))
    };
    let (mark, timeout, ends) = rest().ok_or(Refused::Truncated)?;
    Ok(Message {
        mark,
        timeout,
        ..Message::new(protocol, flags, state, ends)
    })
}

/// Takes an option up. Each may be there once.
fn take_option(m: &mut Message, kind: u8, data: &[u8]) -> Result<(), Refused> {
    match kind & !option::SKIPPABLE {
        option::SEQUENCE if data.len() == message::SEQUENCES && m.sequence.is_none() => {
            m.sequence = message::sequences(&mut Bytes(data));
        }
        option::ENGINE_DATA if data.len() <= message::ENGINE_DATA && m.engine_data.is_empty() => {
            m.engine_data = data.to_vec();
        }
        option::ENGINE_NAME if data.len() <= message::ENGINE_NAME && m.engine.is_empty() => {
            m.engine = data.to_vec();
        }
        option::SEQUENCE | option::ENGINE_DATA | option::ENGINE_NAME => {
            return Err(Refused::Option);
        }
        _ if kind == option::IDLE => {
            let ms = data.try_into().map_err(|_| Refused::Option)?;
            m.idle = Some(u32::from_be_bytes(ms));
        }
        _ if kind == option::TIMESTAMPS => {
            let by = data.try_into().map_err(|_| Refused::Option)?;
            m.timestamps = Some(u32::from_be_bytes(by));
        }
        _ if kind == option::LOCAL => m.local = Some(local(data).ok_or(Refused::Option)?),
        _ if kind & option::SKIPPABLE == 0 => return Err(Refused::UnknownOption(kind)),
        _ => {}
    }
    Ok(())
}

fn local(data: &[u8]) -> Option<Endpoint> {
    let mut b = Bytes(data);
    let port = b.u16()?;
    let addr = match b.0.len() {
        4 => Addr::v4(b.array()?),
        _ => Addr(b.array()?),
    };
    b.0.is_empty().then(|| Endpoint::new(addr, port))
}
