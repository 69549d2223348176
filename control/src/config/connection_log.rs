//! The table `[connection_log]`: where the connections of services with `connection_log = true` are logged.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use uvs_core::service::{ConnectionLog, ServiceSpec};

use super::fields::{Fields, Value};
use super::names::MAX_SOCKET;

pub(super) const KEYS: &[&str] = &["to", "starts", "queue"];
/// Lines that may wait for the disk, of each worker; a million are some 200 MB.
const QUEUE: RangeInclusive<i64> = 64..=1 << 20;
/// What `to` may be.
const TO: &str = "name a file by its absolute path, \"journald\", or a datagram socket: \"unix:/run/collector.sock\"";

/// Where connections are logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLogging {
    /// Where to.
    pub to: LogTo,
    /// Whether a connection's start is a line too.
    pub starts: bool,
    /// Lines that wait at most, of each worker; those beyond are lost, and counted.
    pub queue: usize,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// A file, which grows.
    File(PathBuf),
    /// systemd's journal.
    Journald,
    /// A unix socket of datagrams, which another program listens at: one line each.
    Unix(PathBuf),
}

/// As the configuration writes it.
impl fmt::Display for LogTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Journald => f.write_str("journald"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads the table, where there is one.
pub(super) fn read(top: &Fields<'_>) -> Option<ConnectionLogging> {
    let table = top.get("connection_log")?;
    let fields = table.fields(KEYS)?;
    let Some(to) = fields.get("to") else {
        table.refuse("says not where to", format!("add: to = …; {TO}"));
        return None;
    };
    let starts = fields.get("starts").and_then(|value| value.boolean());
    Some(ConnectionLogging {
        to: destination(&to)?,
        starts: starts.unwrap_or_default(),
        queue: fields.integer("queue", QUEUE).unwrap_or(8192),
    })
}

fn destination(value: &Value<'_>) -> Option<LogTo> {
    let text = value.string()?;
    let unix = text.strip_prefix("unix:");
    let path = Path::new(unix.unwrap_or(text));
    if text == "journald" {
        return Some(LogTo::Journald);
    }
    if !path.is_absolute() || text.ends_with('/') {
        value.refuse(format!("\"{text}\" is no place for a log"), TO);
        return None;
    }
    if unix.is_some_and(|path| path.len() > MAX_SOCKET) {
        let help = format!("the kernel takes {MAX_SOCKET} bytes: use a shorter path");
        value.refuse("its path is too long for a socket", help);
        return None;
    }
    Some(match unix {
        Some(_) => LogTo::Unix(path.into()),
        None => LogTo::File(path.into()),
    })
}

/// Reads a service's key.
pub(super) fn of_service(
    fields: &Fields<'_>,
    log: Option<&ConnectionLogging>,
    spec: &mut ServiceSpec,
) {
    let Some(value) = fields.get("connection_log") else {
        return;
    };
    if !value.boolean().unwrap_or_default() {
        return;
    }
    match log {
        Some(log) if log.starts => spec.connection_log = ConnectionLog::StartsAndEnds,
        Some(_) => spec.connection_log = ConnectionLog::Ends,
        None => value.refuse(
            "there is nowhere to log to",
            "add at the top: [connection_log] with to = \"/var/log/uvs/connections.log\"",
        ),
    }
}
