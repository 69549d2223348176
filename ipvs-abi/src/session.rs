//! A program's conversation over generic netlink: its requests in, the kernel's answers out
//! (`ip_vs_genl_set_cmd`, `ip_vs_genl_get_cmd` of net/netfilter/ipvs/ip_vs_ctl.c).

use uvs_core::service::ServiceKey;
use uvs_core::snapshot::Timeouts;

use crate::attribute::{Attributes, Received};
use crate::director::{Change, Director, Service};
use crate::errno::Errno;
use crate::message::Request;
use crate::{family, server, service};

/// IPVS_CMD_*.
mod command {
    pub(super) const NEW_SERVICE: u8 = 1;
    pub(super) const SET_SERVICE: u8 = 2;
    pub(super) const DEL_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const NEW_DEST: u8 = 5;
    pub(super) const SET_DEST: u8 = 6;
    pub(super) const DEL_DEST: u8 = 7;
    pub(super) const GET_DEST: u8 = 8;
    pub(super) const NEW_DAEMON: u8 = 9;
    pub(super) const DEL_DAEMON: u8 = 10;
    pub(super) const GET_DAEMON: u8 = 11;
    pub(super) const SET_CONFIG: u8 = 12;
    pub(super) const GET_CONFIG: u8 = 13;
    pub(super) const SET_INFO: u8 = 14;
    pub(super) const GET_INFO: u8 = 15;
    pub(super) const ZERO: u8 = 16;
    pub(super) const FLUSH: u8 = 17;
}

/// IPVS_CMD_ATTR_*, and IPVS_INFO_ATTR_*.
mod kind {
    pub(super) const SERVICE: u16 = 1;
    pub(super) const DEST: u16 = 2;
    pub(super) const TIMEOUT_TCP: u16 = 4;
    pub(super) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(super) const TIMEOUT_UDP: u16 = 6;
    pub(super) const VERSION: u16 = 1;
    pub(super) const TABLE_SIZE: u16 = 2;
}

/// IP_VS_VERSION_CODE of IPVS 1.2.1.
pub const IPVS_VERSION: u32 = 0x0001_0201;

/// Answers a datagram. What comes back is sent datagram by datagram.
pub fn answer(datagram: &[u8], director: &mut impl Director) -> Vec<Vec<u8>> {
    let answer = |request: &Request<'_>| {
        carry_out(request, director).unwrap_or_else(|errno| request.refused(errno))
    };
    Request::all(datagram).iter().flat_map(answer).collect()
}

fn carry_out(
    request: &Request<'_>,
    director: &mut impl Director,
) -> Result<Vec<Vec<u8>>, Errno> {
    if request.kind == family::CONTROLLER {
        return match family::is_asked_for(request.payload) {
            true => Ok(request.done(Some(&family::described()))),
            false => Err(Errno::NoEntry),
        };
    }
    let header = request.payload.split_first_chunk::<4>();
    let (&[command, ..], attributes) = header.ok_or(Errno::Invalid)?;
    if request.kind != family::FAMILY {
        return Err(Errno::NoEntry);
    }
    let received = Received::parse(attributes)?;
    match command {
        command::GET_SERVICE if request.is_dump() => {
            let entry = |s: &Service| {
                let inner = service::listed(&s.spec, &s.totals, &s.rates);
                named(command::NEW_SERVICE, kind::SERVICE, &inner)
            };
            Ok(request.dump(director.services()?.iter().map(entry)))
        }
        command::GET_DEST => dump_servers(request, &received, director),
        // Neither a master nor a backup runs.
        command::GET_DAEMON => Ok(request.dump([])),
        _ if request.is_dump() => Err(Errno::Unsupported),
        command::GET_SERVICE => {
            let key = service::key(&received.nest(kind::SERVICE)?)?;
            let all = director.services()?;
            let found = all.iter().find(|s| s.spec.key == key);
            let found = found.ok_or(Errno::NoService)?;
            let inner = service::listed(&found.spec, &found.totals, &found.rates);
            let entry = named(command::NEW_SERVICE, kind::SERVICE, &inner);
            Ok(request.done(Some(&entry)))
        }
        command::GET_CONFIG => {
            let times = director.timeouts()?;
            let config = Attributes::new()
                .u32(kind::TIMEOUT_TCP, times.tcp)
                .u32(kind::TIMEOUT_TCP_FIN, times.tcp_fin)
                .u32(kind::TIMEOUT_UDP, times.udp);
            Ok(request.done(Some(&with_header(command::SET_CONFIG, &config))))
        }
        command::GET_INFO => {
            let info = Attributes::new()
                .u32(kind::VERSION, IPVS_VERSION)
                .u32(kind::TABLE_SIZE, director.table_size()?);
            Ok(request.done(Some(&with_header(command::SET_INFO, &info))))
        }
        _ => {
            director.change(change(command, &received)?)?;
            Ok(request.done(None))
        }
    }
}

/// The servers of one service; of one that is not there, none.
fn dump_servers(
    request: &Request<'_>,
    received: &Received<'_>,
    director: &mut impl Director,
) -> Result<Vec<Vec<u8>>, Errno> {
    let key = service::key(&received.nest(kind::SERVICE)?)?;
    let all = director.services()?;
    let found = all.iter().find(|s| s.spec.key == key);
    let entries = found.into_iter().flat_map(|s| &s.servers).map(|s| {
        let inner = server::listed(&s.spec, s.load, &s.totals, &s.rates);
        named(command::NEW_DEST, kind::DEST, &inner)
    });
    Ok(request.dump(entries))
}

/// What a command asks to be changed.
fn change(command: u8, received: &Received<'_>) -> Result<Change, Errno> {
    let key = || service::key(&received.nest(kind::SERVICE)?);
    let spec = || service::spec(&received.nest(kind::SERVICE)?);
    let server = |key: &ServiceKey| {
        let ipv6 = service::key_is_ipv6(key);
        server::spec(&received.nest(kind::DEST)?, ipv6)
    };
    Ok(match command {
        command::NEW_SERVICE => Change::AddService(spec()?),
        command::SET_SERVICE => Change::EditService(spec()?),
        command::DEL_SERVICE => Change::DeleteService(key()?),
        command::NEW_DEST => {
            let key = key()?;
            Change::AddServer(key, server(&key)?)
        }
        command::SET_DEST => {
            let key = key()?;
            Change::EditServer(key, server(&key)?)
        }
        command::DEL_DEST => {
            let key = key()?;
            let ipv6 = service::key_is_ipv6(&key);
            Change::DeleteServer(key, server::endpoint(&received.nest(kind::DEST)?, ipv6)?)
        }
        command::SET_CONFIG => {
            let number = |kind| received.u32(kind).unwrap_or(0);
            Change::SetTimeouts(Timeouts {
                tcp: number(kind::TIMEOUT_TCP),
                tcp_fin: number(kind::TIMEOUT_TCP_FIN),
                udp: number(kind::TIMEOUT_UDP),
            })
        }
        command::ZERO => match received.get(kind::SERVICE) {
            Some(_) => Change::Zero(Some(key()?)),
            None => Change::Zero(None),
        },
        command::FLUSH => Change::Clear,
        // There is no connection sync: it cannot be started, and what is to be stopped does not run.
        command::NEW_DAEMON => return Err(Errno::Unsupported),
        command::DEL_DAEMON => return Err(Errno::NoService),
        _ => return Err(Errno::Unsupported),
    })
}

/// Attributes in the attribute of a command.
fn named(command: u8, kind: u16, inner: &Attributes) -> Vec<u8> {
    with_header(command, &Attributes::new().nest(kind, inner))
}

/// Attributes behind a generic netlink header.
fn with_header(command: u8, attributes: &Attributes) -> Vec<u8> {
    [&[command, family::VERSION, 0, 0][..], &attributes.to_bytes()].concat()
}
