//! A program's conversation over generic netlink: its requests in, the kernel's answers out
//! (`ip_vs_genl_set_cmd`, `ip_vs_genl_get_cmd` of net/netfilter/ipvs/ip_vs_ctl.c).

use uvs_control::protocol::{Change, ServiceStatus, SyncStatus, TABLE_SIZE, all, ask};
use uvs_core::service::ServiceKey;
use uvs_core::snapshot::Timeouts;

use crate::attribute::{Attributes, Received};
use crate::director::{Asked, Director, carry_out, one};
use crate::errno::Errno;
use crate::message::Request;
use crate::{daemon, family, server, service};
use uvs_ipvs_carried::{CONTROLLER, FAMILY};

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
    pub(super) const DAEMON: u16 = 3;
    pub(super) const TIMEOUT_TCP: u16 = 4;
    pub(super) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(super) const TIMEOUT_UDP: u16 = 6;
    pub(super) const VERSION: u16 = 1;
    pub(super) const TABLE_SIZE: u16 = 2;
}

/// IP_VS_VERSION_CODE of IPVS 1.2.1.
pub const IPVS_VERSION: u32 = 0x0001_0201;

/// Answers a request of a program that is `permitted` to change things, or is not. What comes back is sent
/// datagram by datagram.
pub fn answer(
    request: &Request<'_>,
    permitted: bool,
    director: &mut impl Director,
) -> Vec<Vec<u8>> {
    let answer = if request.kind == CONTROLLER {
        find_family(request)
    } else if permitted {
        carry_out_request(request, director)
    } else {
        // GENL_ADMIN_PERM: each command of the family wants it, also those that only look.
        Err(Errno::Permission)
    };
    answer.unwrap_or_else(|errno| request.refused(errno))
}

/// The change that a request asks for, in words; `None` where it asks for none, or makes no sense.
pub(crate) fn change_asked(request: &Request<'_>) -> Option<String> {
    let (&[command, ..], attributes) = request.payload.split_first_chunk::<4>()?;
    if request.kind != FAMILY || request.is_dump() {
        return None;
    }
    let received = Received::parse(attributes).ok()?;
    asked(command, &received)
        .ok()
        .map(|asked| asked.to_string())
}

fn find_family(request: &Request<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    match request.is_for_ipvs() {
        true => Ok(request.done(Some(&family::described()))),
        false => Err(Errno::NoEntry),
    }
}

fn carry_out_request(
    request: &Request<'_>,
    director: &mut impl Director,
) -> Result<Vec<Vec<u8>>, Errno> {
    let header = request.payload.split_first_chunk::<4>();
    let (&[command, ..], attributes) = header.ok_or(Errno::Invalid)?;
    if request.kind != FAMILY {
        return Err(Errno::NoEntry);
    }
    let received = Received::parse(attributes)?;
    match command {
        command::GET_SERVICE if request.is_dump() => {
            let all = all(&ask::ListServices(None), director)?.services;
            Ok(request.dump(all.iter().map(service_entry)))
        }
        command::GET_DEST => dump_servers(request, &received, director),
        command::GET_DAEMON => {
            let all = director.answer(ask::ListSync)?;
            let entry = |s: &SyncStatus| {
                named(
                    command::NEW_DAEMON,
                    kind::DAEMON,
                    &daemon::listed(&s.daemon),
                )
            };
            Ok(request.dump(all.iter().map(entry)))
        }
        _ if request.is_dump() => Err(Errno::Unsupported),
        command::GET_SERVICE => {
            let key = service::key(&received.nest(kind::SERVICE)?)?;
            let found = one(key, director)?;
            Ok(request.done(Some(&service_entry(&found))))
        }
        command::GET_CONFIG => {
            let times = director.answer(ask::GetTimeouts)?;
            let config = Attributes::new()
                .u32(kind::TIMEOUT_TCP, times.tcp)
                .u32(kind::TIMEOUT_TCP_FIN, times.tcp_fin)
                .u32(kind::TIMEOUT_UDP, times.udp);
            Ok(request.done(Some(&with_header(command::SET_CONFIG, &config))))
        }
        command::GET_INFO => {
            let info = Attributes::new()
                .u32(kind::VERSION, IPVS_VERSION)
                .u32(kind::TABLE_SIZE, TABLE_SIZE);
            Ok(request.done(Some(&with_header(command::SET_INFO, &info))))
        }
        _ => {
            carry_out(asked(command, &received)?, director)?;
            Ok(request.done(None))
        }
    }
}

fn service_entry(status: &ServiceStatus) -> Vec<u8> {
    named(
        command::NEW_SERVICE,
        kind::SERVICE,
        &service::listed(status),
    )
}

/// The servers of one service; of one that is not there, none.
fn dump_servers(
    request: &Request<'_>,
    received: &Received<'_>,
    director: &mut impl Director,
) -> Result<Vec<Vec<u8>>, Errno> {
    let key = service::key(&received.nest(kind::SERVICE)?)?;
    let servers = match one(key, director).map_err(Errno::from) {
        Ok(status) => status.servers,
        Err(Errno::NoService) => Vec::new(),
        Err(errno) => return Err(errno),
    };
    let servers = servers.iter();
    let entries = servers.map(|s| named(command::NEW_DEST, kind::DEST, &server::listed(s)));
    Ok(request.dump(entries))
}

/// What a command asks to be changed.
fn asked(command: u8, received: &Received<'_>) -> Result<Asked, Errno> {
    let key = || service::key(&received.nest(kind::SERVICE)?);
    let spec = || service::spec(&received.nest(kind::SERVICE)?);
    let server = |key: &ServiceKey| {
        let ipv6 = service::key_is_ipv6(key);
        server::spec(&received.nest(kind::DEST)?, ipv6)
    };
    let change = match command {
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
        command::ZERO => {
            let one = received.get(kind::SERVICE).map(|_| key()).transpose()?;
            return Ok(Asked::Zero(one));
        }
        command::FLUSH => Change::Clear,
        command::NEW_DAEMON => {
            let wanted = daemon::request(&received.nest(kind::DAEMON)?)?;
            return Ok(Asked::StartSync(wanted));
        }
        command::DEL_DAEMON => {
            let role = daemon::role_of(&received.nest(kind::DAEMON)?)?;
            return Ok(Asked::StopSync(role));
        }
        _ => return Err(Errno::Unsupported),
    };
    Ok(change.into())
}

/// Attributes in the attribute of a command.
fn named(command: u8, kind: u16, inner: &Attributes) -> Vec<u8> {
    with_header(command, &Attributes::new().nest(kind, inner))
}

/// Attributes behind a generic netlink header.
fn with_header(command: u8, attributes: &Attributes) -> Vec<u8> {
    [
        &[command, family::VERSION, 0, 0][..],
        &attributes.to_bytes(),
    ]
    .concat()
}
