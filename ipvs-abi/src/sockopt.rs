//! IPVS's socket options: fixed structures, IPv4 only (`do_ip_vs_set_ctl`, `do_ip_vs_get_ctl` of
//! net/netfilter/ipvs/ip_vs_ctl.c; linux/ip_vs.h). Numbers are the host's, addresses and ports network byte order.

use uvs_control::protocol::{Change, ServerStatus, ServiceStatus, TABLE_SIZE, all, ask};
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::scheduler::{FLAG_1, FLAG_2, FLAG_3};
use uvs_core::service::{Persistence, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::snapshot::Timeouts;

use crate::daemon;
use crate::director::{Asked, Director, carry_out, one};
use crate::errno::Errno;
use crate::server::{method, method_number};
use crate::service::{ONE_PACKET, PERSISTENT, key_is_ipv6, shown_flags};
use crate::session::IPVS_VERSION;
use crate::stats;
use crate::structure::{Reader, Writer};

/// IP_VS_SO_SET_*.
mod set {
    pub(super) const ADD: u32 = 1154;
    pub(super) const EDIT: u32 = 1155;
    pub(super) const DELETE: u32 = 1156;
    pub(super) const FLUSH: u32 = 1157;
    pub(super) const ADD_SERVER: u32 = 1159;
    pub(super) const DELETE_SERVER: u32 = 1160;
    pub(super) const EDIT_SERVER: u32 = 1161;
    pub(super) const TIMEOUT: u32 = 1162;
    pub(super) const START_DAEMON: u32 = 1163;
    pub(super) const STOP_DAEMON: u32 = 1164;
    pub(super) const ZERO: u32 = 1167;
}

/// IP_VS_SO_GET_*.
mod get {
    pub(super) const VERSION: u32 = 1152;
    pub(super) const INFO: u32 = 1153;
    pub(super) const SERVICES: u32 = 1154;
    pub(super) const SERVICE: u32 = 1155;
    pub(super) const SERVERS: u32 = 1156;
    pub(super) const TIMEOUT: u32 = 1158;
    pub(super) const DAEMON: u32 = 1159;
}

/// Bytes of `struct ip_vs_service_user` and of that with `struct ip_vs_dest_user` behind it.
const SERVICE: usize = 44;
const SERVER: usize = 68;
/// Bytes of `struct ip_vs_timeout_user`.
const TIMEOUTS: usize = 12;
/// Bytes of `struct ip_vs_dest_entry`.
const SERVER_ENTRY: usize = 96;
/// Bytes of a scheduler's name with its NUL (IP_VS_SCHEDNAME_MAXLEN).
const NAME: usize = 16;

/// setsockopt: carries out a change.
///
/// # Errors
/// What the kernel's IPVS would answer; nothing is changed.
pub fn set(option: u32, value: &[u8], director: &mut impl Director) -> Result<(), Errno> {
    carry_out(understood(option, value)?, director)
}

/// The change that a value asks for, in words; `None` where it makes no sense.
pub(crate) fn change_asked(option: u32, value: &[u8]) -> Option<String> {
    understood(option, value)
        .ok()
        .map(|asked| asked.to_string())
}

fn understood(option: u32, value: &[u8]) -> Result<Asked, Errno> {
    let length = match option {
        set::ADD | set::EDIT | set::DELETE | set::ZERO => SERVICE,
        set::ADD_SERVER | set::EDIT_SERVER | set::DELETE_SERVER => SERVER,
        set::TIMEOUT => TIMEOUTS,
        set::START_DAEMON | set::STOP_DAEMON => daemon::LEN,
        set::FLUSH => 0,
        _ => return Err(Errno::Invalid),
    };
    if value.len() != length {
        return Err(Errno::Invalid);
    }
    asked(option, value)
}

/// What a value of the right length asks for.
fn asked(option: u32, value: &[u8]) -> Result<Asked, Errno> {
    let mut from = Reader::new(value);
    let change = match option {
        set::FLUSH => Change::Clear,
        set::TIMEOUT => Change::SetTimeouts(Timeouts {
            tcp: from.u32(),
            tcp_fin: from.u32(),
            udp: from.u32(),
        }),
        set::START_DAEMON => return Ok(Asked::StartSync(daemon::read(&mut from)?)),
        set::STOP_DAEMON => return Ok(Asked::StopSync(daemon::read(&mut from)?.role)),
        set::ZERO if names_none(value) => return Ok(Asked::Zero(None)),
        _ => {
            let spec = service(&mut from)?;
            let key = spec.key;
            match option {
                set::ADD => Change::AddService(spec),
                set::EDIT => Change::EditService(spec),
                set::DELETE => Change::DeleteService(key),
                set::ADD_SERVER => Change::AddServer(key, server(&mut from)?),
                set::EDIT_SERVER => Change::EditServer(key, server(&mut from)?),
                set::DELETE_SERVER => Change::DeleteServer(key, server(&mut from)?.endpoint),
                _ => return Ok(Asked::Zero(Some(key))),
            }
        }
    };
    Ok(change.into())
}

/// getsockopt: what is asked for with a buffer of `room` bytes that begins with `head`.
///
/// # Errors
/// What the kernel's IPVS would answer.
pub fn get(
    option: u32,
    room: u32,
    head: &[u8],
    director: &mut impl Director,
) -> Result<Vec<u8>, Errno> {
    let mut from = Reader::new(head);
    let answer = match option {
        get::VERSION => {
            let [major, minor, patch] = [16, 8, 0].map(|shift| IPVS_VERSION >> shift & 0xff);
            let text =
                format!("IP Virtual Server version {major}.{minor}.{patch} (size={TABLE_SIZE})\0");
            text.into_bytes()
        }
        get::INFO => {
            let all = all(&ask::ListServices(None), director)?;
            let made = Writer::new().u32(IPVS_VERSION).u32(all.table_size);
            made.u32(count(&ipv4(all.services))).done()
        }
        get::SERVICES => {
            let mut all = ipv4(all(&ask::ListServices(None), director)?.services);
            // The program says how many it has room for.
            all.truncate(from.u32() as usize);
            let head = Writer::new().u32(count(&all)).u32(0);
            all.iter().fold(head, listed_service).done()
        }
        get::SERVICE => {
            let found = one(entry_key(&mut from)?, director)?;
            listed_service(Writer::new(), &found).done()
        }
        get::SERVERS => servers(&mut from, director)?,
        get::TIMEOUT => {
            let times = director.answer(ask::GetTimeouts)?;
            let made = Writer::new().u32(times.tcp).u32(times.tcp_fin);
            made.u32(times.udp).done()
        }
        get::DAEMON => {
            let running = director.answer(ask::ListSync)?.into_iter();
            let running: Vec<_> = running.map(|status| status.daemon).collect();
            daemon::both(&running)
        }
        _ => return Err(Errno::Invalid),
    };
    match answer.len() <= room as usize {
        true => Ok(answer),
        false => Err(Errno::Invalid),
    }
}

/// `struct ip_vs_get_dests`: the service, and its servers. One of another family is all zeroes, as the
/// kernel has it.
fn servers(from: &mut Reader<'_>, director: &mut impl Director) -> Result<Vec<u8>, Errno> {
    let wanted = entry_key(from)?;
    let room = from.u32() as usize;
    let mut servers = one(wanted, director)?.servers;
    servers.truncate(room);
    let head = identity(Writer::new(), &wanted).u32(count(&servers)).u32(0);
    Ok(servers.iter().fold(head, listed_server).done())
}

fn count<T>(all: &[T]) -> u32 {
    u32::try_from(all.len()).unwrap_or(u32::MAX)
}

/// What socket options can name.
fn ipv4(mut services: Vec<ServiceStatus>) -> Vec<ServiceStatus> {
    services.retain(|s| !key_is_ipv6(&s.spec.key));
    services
}

/// Whether neither mark nor address nor port is given: all services.
fn names_none(value: &[u8]) -> bool {
    value[4..16].iter().all(|byte| *byte == 0)
}

/// `struct ip_vs_service_user`.
fn service(from: &mut Reader<'_>) -> Result<ServiceSpec, Errno> {
    let key = key(from)?;
    let name: [u8; NAME] = from.take();
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(Errno::Fault)?;
    let scheduler = std::str::from_utf8(&name[..end]).map_err(|_| Errno::NoEntry)?;
    let (flags, timeout) = (from.u32(), from.u32());
    let mask = u32::from_be_bytes(from.take());
    Ok(ServiceSpec {
        flags: flags & (FLAG_1 | FLAG_2 | FLAG_3),
        persistence: (flags & PERSISTENT != 0).then_some(Persistence { timeout, mask }),
        one_packet: flags & ONE_PACKET != 0,
        ..ServiceSpec::new(key, scheduler)
    })
}

/// `struct ip_vs_dest_user`.
fn server(from: &mut Reader<'_>) -> Result<ServerSpec, Errno> {
    let addr = Addr::v4(from.take());
    let port = from.port();
    from.skip(2);
    let forwarding = method(from.u32())?;
    Ok(ServerSpec {
        weight: from.u32(),
        upper: from.u32(),
        lower: from.u32(),
        ..ServerSpec::new(Endpoint::new(addr, port), forwarding)
    })
}

/// Protocol, address, port and mark, as most structures begin.
fn key(from: &mut Reader<'_>) -> Result<ServiceKey, Errno> {
    let key = any_key(from);
    key.ok_or(Errno::Fault)
}

/// The same in a question: what cannot be is not there.
fn entry_key(from: &mut Reader<'_>) -> Result<ServiceKey, Errno> {
    let key = any_key(from);
    key.ok_or(Errno::NoService)
}

fn any_key(from: &mut Reader<'_>) -> Option<ServiceKey> {
    let number = from.u16();
    from.skip(2);
    let addr = Addr::v4(from.take());
    let port = from.port();
    from.skip(2);
    let mark = from.u32();
    let protocol = Protocol::from_number(u8::try_from(number).ok()?)?;
    Some(match mark {
        0 => ServiceKey::Address {
            protocol,
            addr,
            port,
        },
        _ => ServiceKey::Mark { mark, ipv6: false },
    })
}

/// What [`key`] reads. A service of a mark has TCP's number, which ipvsadm gives it.
fn identity(to: Writer, key: &ServiceKey) -> Writer {
    let (protocol, addr, port, mark) = match *key {
        ServiceKey::Address {
            protocol,
            addr,
            port,
        } => (protocol, addr, port, 0),
        ServiceKey::Mark { mark, .. } => (Protocol::Tcp, Addr::UNSPECIFIED, 0, mark),
    };
    let to = to.u16(u16::from(protocol as u8)).zeros(2);
    to.bytes(&addr.as_v4().unwrap_or_default())
        .bytes(&port.to_be_bytes())
        .zeros(2)
        .u32(mark)
}

/// `struct ip_vs_service_entry`.
fn listed_service(to: Writer, service: &ServiceStatus) -> Writer {
    let spec = &service.spec;
    let mut name = [0; NAME];
    for (to, from) in name[..NAME - 1].iter_mut().zip(spec.scheduler.bytes()) {
        *to = from;
    }
    let persistence = spec.persistence;
    let (timeout, mask) = persistence.map_or((0, u32::MAX), |p| (p.timeout, p.mask));
    let to = identity(to, &spec.key).bytes(&name);
    let to = to.u32(shown_flags(spec)).u32(timeout);
    let to = to.bytes(&mask.to_be_bytes()).u32(count(&service.servers));
    stats::as_structure(to, &service.numbers.stats, &service.rates)
}

/// `struct ip_vs_dest_entry`.
fn listed_server(to: Writer, server: &ServerStatus) -> Writer {
    let spec = &server.spec;
    let Some(addr) = spec.endpoint.addr.as_v4() else {
        return to.zeros(SERVER_ENTRY);
    };
    let to = to
        .bytes(&addr)
        .bytes(&spec.endpoint.port.to_be_bytes())
        .zeros(2)
        .u32(method_number(spec.forwarding, server.local))
        .u32(spec.weight)
        .u32(spec.upper)
        .u32(spec.lower)
        .u32(server.numbers.active)
        .u32(server.numbers.inactive)
        .u32(server.numbers.persistent);
    // The counters of 64 bits lie at multiples of 8 bytes.
    stats::as_structure(to.zeros(4), &server.numbers.stats, &server.rates)
}
