//! What is handed from one daemon to the next: bytes in a file in memory, and sockets.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use uvs_control::protocol::SyncRequest;
use uvs_control::server::HandedDown as HandedSocket;
use uvs_control::table;
use uvs_core::numbers::{LogLosses, RecordNumbers};

use crate::daemon::Carried;
use crate::hook;
use crate::port::{HandedRing, RingPlace};
use crate::worker::HandedDown;

/// What the control thread hands down.
#[derive(Serialize, Deserialize)]
pub(crate) struct Estate {
    /// The interfaces, in the order of their ports.
    pub(crate) interfaces: Vec<String>,
    /// Where the control socket is.
    pub(crate) socket: PathBuf,
    /// Where the one for IPVS's programs is.
    pub(crate) ipvs_socket: PathBuf,
    /// The table.
    pub(crate) table: table::Estate,
    /// The sync daemons that the configuration asked for.
    pub(crate) sync_requests: Vec<SyncRequest>,
    /// What is shown of the time before.
    pub(crate) carried: Carried,
    /// What was counted.
    pub(crate) past: Past,
    /// The hook, where there is one,
    pub(crate) hook: Option<hook::Estate>,
    /// and else why there is none.
    pub(crate) why_not_hooked: String,
    /// Whether the metrics' listening socket is among those handed on.
    pub(crate) has_metrics: bool,
    /// The key of the workers' fan.
    pub(crate) fan_secret: u32,
    /// Of each worker, in the order of their numbers.
    pub(crate) workers: Vec<WorkerPart>,
}

/// What of an estate is one worker's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WorkerPart {
    /// How many bytes what it knows has.
    pub(crate) bytes: u64,
    /// Each port's rings, of the host's own stack last.
    pub(crate) rings: Vec<Vec<RingPlace>>,
}

/// What was counted outside the workers: the new daemon counts on from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Past {
    /// When the first of them started.
    pub(crate) started_at: SystemTime,
    /// Netlink's overruns.
    pub(crate) netlink_overruns: u64,
    /// The guard's repairs: removed, damaged.
    pub(crate) guard_repairs: (u64, u64),
    /// Lines that the log lacks.
    pub(crate) log: LogLosses,
    /// Lines that the connection log has and lacks.
    pub(crate) records: RecordNumbers,
    /// The configuration's loads: well, and failed.
    pub(crate) reloads: (u64, u64),
    /// How long schedulers took: by bucket, all of them, and their sum in nanoseconds.
    pub(crate) schedule: (Vec<u64>, u64, u64),
}

impl Past {
    /// There was no daemon before.
    pub(crate) fn none() -> Self {
        Self {
            started_at: SystemTime::now(),
            netlink_overruns: 0,
            guard_repairs: (0, 0),
            log: LogLosses::default(),
            records: RecordNumbers::default(),
            reloads: (0, 0),
            schedule: (Vec::new(), 0, 0),
        }
    }
}

/// The sockets beside an [`Estate`].
pub(crate) struct Descriptors {
    /// The guard's claim.
    pub(crate) claim: OwnedFd,
    /// The control socket.
    pub(crate) control: HandedSocket,
    /// The one for IPVS's programs.
    pub(crate) ipvs: HandedSocket,
    /// The metrics' listening socket.
    pub(crate) metrics: Option<OwnedFd>,
    /// The hook's links.
    pub(crate) links: Vec<OwnedFd>,
}

/// An estate on its way: the descriptors, the first of which holds the bytes.
pub(super) fn packed(
    mut estate: Estate,
    descriptors: Descriptors,
    workers: Vec<HandedDown>,
) -> Result<Vec<OwnedFd>> {
    estate.has_metrics = descriptors.metrics.is_some();
    estate.workers = workers.iter().map(WorkerPart::of).collect();
    let file = memfd_create("uvs-estate", MemfdFlags::CLOEXEC).context("a file in memory")?;
    let mut file = File::from(file);
    let head = postcard::to_stdvec(&estate).context("writing down what is known")?;
    let mut parts = std::iter::once(&head).chain(workers.iter().map(|w| &w.estate));
    parts
        .try_for_each(|part| file.write_all(part))
        .and_then(|()| file.rewind())
        .context("writing down what is known")?;
    let Descriptors {
        claim,
        control,
        ipvs,
        metrics,
        links,
        ..
    } = descriptors;
    let first = [
        file.into(),
        claim,
        control.socket,
        control.lock,
        ipvs.socket,
        ipvs.lock,
    ];
    let rings = workers.into_iter().flat_map(|worker| worker.rings);
    let rings = rings.flatten().map(|ring| ring.socket);
    let all = first.into_iter().chain(metrics).chain(links).chain(rings);
    Ok(all.collect())
}

/// What [`packed`] has packed: the estate, the sockets, and what the workers have handed down.
pub(super) fn unpacked(
    descriptors: Vec<OwnedFd>,
) -> Result<(Estate, Descriptors, Vec<HandedDown>)> {
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().context("a descriptor is missing");
    let mut bytes = Vec::new();
    File::from(next()?)
        .read_to_end(&mut bytes)
        .context("reading what is handed down")?;
    let read = postcard::take_from_bytes::<Estate>(&bytes);
    let (estate, mut rest) = read.context("what is handed down makes no sense")?;
    let claim = next()?;
    let mut socket = || {
        Ok::<_, anyhow::Error>(HandedSocket {
            socket: next()?,
            lock: next()?,
        })
    };
    let (control, ipvs) = (socket()?, socket()?);
    let metrics = estate.has_metrics.then(&mut next).transpose()?;
    let links = estate.hook.as_ref().map_or(0, |hook| hook.descriptors());
    let links = (0..links).map(|_| next()).collect::<Result<_>>()?;
    let mut workers = Vec::new();
    for part in &estate.workers {
        let own = usize::try_from(part.bytes).ok();
        let own = own.and_then(|bytes| rest.split_at_checked(bytes));
        let (own, others) = own.context("a worker's part is missing")?;
        rest = others;
        let mut rings = Vec::new();
        for port in &part.rings {
            let ring = |place: &RingPlace| {
                Ok::<_, anyhow::Error>(HandedRing {
                    socket: next()?,
                    place: *place,
                })
            };
            rings.push(port.iter().map(ring).collect::<Result<_>>()?);
        }
        workers.push(HandedDown {
            estate: own.to_vec(),
            rings,
        });
    }
    ensure!(descriptors.next().is_none(), "a descriptor is too many");
    let sockets = Descriptors {
        claim,
        control,
        ipvs,
        metrics,
        links,
    };
    Ok((estate, sockets, workers))
}

impl WorkerPart {
    fn of(worker: &HandedDown) -> Self {
        let places = |port: &Vec<HandedRing>| port.iter().map(|ring| ring.place).collect();
        Self {
            bytes: worker.estate.len() as u64,
            rings: worker.rings.iter().map(places).collect(),
        }
    }
}

/// Borrowed, as they are sent.
pub(super) fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}
