//! The hook as the daemon has it: maps, programs and heartbeat. `attach` puts the program at interfaces, `rules` says what
//! is ours without a connection, `numbers` is what the programs count.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uvs_core::narrow;
use uvs_core::offload::{Birth, Cell, Found, Reach, Room, ServerCell, ServerOrder};
use uvs_core::time::Instant;

use crate::ability::check_machine;
use crate::attach::{Link, Place};
use crate::cells::half;
use crate::error::HookError;
use crate::events::Events;
use crate::kept;
use crate::layout::{OURS_MARK, control};
use crate::maps::{self, Limits, Maps, Memory, VERSION};
use crate::pins;
use crate::programs::Programs;
use crate::rules::InForce;
use crate::sys::memory::Ring;
use crate::worker::Worker;

/// What a hook is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// How much there may be of everything.
    pub limits: Limits,
    /// How far it is to go.
    pub reach: Reach,
    /// How long after the last heartbeat the host gets everything back.
    pub stale_after: Duration,
    /// The mark of frames that the daemon sends into the host's stack.
    pub host_mark: u32,
    /// Whether a ring can describe a UDP super-frame (Linux 6.2). Where it cannot, one would stop the ring.
    pub udp_gso: bool,
    /// Where maps and links are pinned, in a BPF file system; `None` = they go with the process.
    pub pins: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            reach: Reach::Everything,
            stale_after: Duration::from_secs(60),
            host_mark: 0,
            udp_gso: true,
            pins: None,
        }
    }
}

/// A loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramInfo {
    /// What it is called in `bpf/hook.bpf.c`.
    pub name: &'static str,
    /// The kernel's number of it.
    pub id: u32,
    /// The hash of its instructions.
    pub tag: String,
}

/// The hook.
pub struct Hook {
    pub(crate) maps: Maps,
    pub(crate) memory: Memory,
    pub(crate) programs: Programs,
    pub(crate) setup: Setup,
    /// Connections in the maps.
    pub(crate) taken: AtomicU32,
    /// The rules, which the control thread changes, and a worker where cells run out.
    pub(crate) rules: Mutex<InForce>,
    pub(crate) links: Mutex<BTreeMap<(u32, Place), Link>>,
    worker: Mutex<bool>,
    /// Held while flows are staged and taken out.
    pub(crate) removing: Mutex<()>,
}

impl Hook {
    /// Makes maps and programs. What an earlier daemon has pinned there goes, unless it is [adopted](Hook::adopt).
    ///
    /// # Errors
    /// The kernel does not allow it or cannot do it; the text says what helps.
    pub fn load(setup: &Setup, now: Instant) -> Result<Self, HookError> {
        check_machine()?;
        if let Some(dir) = &setup.pins {
            pins::prepare(dir)?;
        }
        let maps = Maps::create(&setup.limits)?;
        maps::enter_states(&maps.states)?;
        let hook = Self::new(setup, maps, InForce::default())?;
        hook.begin(now);
        if let Some(dir) = &setup.pins {
            pins::replace(dir, &hook.maps)?;
        }
        Ok(hook)
    }

    /// Opens the maps that an earlier daemon has pinned, and loads programs of this version for them. Ports that have
    /// the earlier ones keep these until they are [attached](Hook::attach) again.
    ///
    /// # Errors
    /// [`HookError::Layout`]: there are none, or of another version: make new ones.
    pub fn adopt(setup: &Setup, now: Instant) -> Result<Self, HookError> {
        let Some(dir) = &setup.pins else {
            let path = PathBuf::new();
            let what = "nothing is pinned";
            return Err(HookError::Layout { path, what });
        };
        let maps = Maps::open(dir, &setup.limits)?;
        let in_force = InForce::read(&maps)?;
        let hook = Self::new(setup, maps, in_force)?;
        if hook.memory.control().version.load(Relaxed) != VERSION {
            let (path, what) = (dir.join("control"), "another version");
            return Err(HookError::Layout { path, what });
        }
        hook.begin(now);
        let there = hook
            .memory
            .conns
            .iter()
            .filter(|c| c.birth.load(Relaxed) != 0);
        let there = narrow::to_u32(there.count());
        hook.taken.store(there, Relaxed);
        hook.sweep_keys()?;
        Ok(hook)
    }

    pub(crate) fn new(setup: &Setup, maps: Maps, in_force: InForce) -> Result<Self, HookError> {
        let programs = Programs::load(&maps, setup.reach)?;
        let memory = Memory::map(&maps)?;
        Ok(Self {
            maps,
            memory,
            programs,
            setup: setup.clone(),
            taken: AtomicU32::new(0),
            rules: Mutex::new(in_force),
            links: Mutex::new(BTreeMap::new()),
            worker: Mutex::new(false),
            removing: Mutex::new(()),
        })
    }

    /// Enters what the setup says, and that the daemon lives. From now on the maps are this process's to change; of another
    /// one that has handed them over, programs stay at the ports until this one's are [attached](Hook::attach).
    pub fn begin(&self, now: Instant) {
        let shared = self.memory.control();
        let stale = u64::try_from(self.setup.stale_after.as_nanos()).unwrap_or(u64::MAX);
        shared.stale_after.store(stale, Relaxed);
        shared.ours_mark.store(OURS_MARK, Relaxed);
        shared.host_mark.store(self.setup.host_mark, Relaxed);
        let gso = if self.setup.udp_gso {
            0
        } else {
            control::NO_UDP_GSO
        };
        shared.flags.fetch_and(!control::NO_UDP_GSO, Relaxed);
        shared.flags.fetch_or(gso, Relaxed);
        shared.version.store(VERSION, Relaxed);
        self.heartbeat(now);
    }

    /// How far it goes.
    pub const fn reach(&self) -> Reach {
        self.programs.reach
    }

    /// Why it goes no further, where more was asked for.
    pub fn shortfall(&self) -> Option<&str> {
        self.programs.shortfall.as_deref()
    }

    /// The program at the ports.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn program(&self) -> Result<ProgramInfo, HookError> {
        let info = self.programs.ingress.info();
        let (id, tag) = info.map_err(HookError::io("what program is loaded"))?;
        Ok(ProgramInfo {
            name: self.reach().name(),
            id,
            tag: tag.iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    /// The hook as an engine has it that is the only one.
    ///
    /// # Errors
    /// As [`Hook::workers`]'.
    pub fn worker(self: &Arc<Self>) -> Result<Worker, HookError> {
        let mut only = self.workers(1)?;
        only.pop().ok_or(HookError::Busy)
    }

    /// The hook as each of so many engines has it, each with its [room](Hook::rooms).
    ///
    /// # Errors
    /// [`HookError::Busy`]: it was given out already; or its memory cannot be mapped.
    pub fn workers(self: &Arc<Self>, engines: u32) -> Result<Vec<Worker>, HookError> {
        let mut given = lock(&self.worker);
        if *given {
            return Err(HookError::Busy);
        }
        let ring = Ring::map(&self.maps.events);
        let ring = ring.map_err(|e| HookError::refused("map the ring of events", e))?;
        *given = true;
        let events = Arc::new(Events::new(ring, &self.rooms(engines)));
        let worker = |number| Worker::new(Arc::clone(self), number, Arc::clone(&events));
        Ok((0..engines as usize).map(worker).collect())
    }

    /// How much of it there is for an engine that is the only one.
    pub fn room(&self) -> Room {
        let limits = &self.setup.limits;
        let births = self.memory.conns.iter().map(|c| c.birth.load(Relaxed));
        Room {
            cells: 0..limits.connections,
            servers: 0..limits.servers,
            hops: 0..limits.hops,
            first_birth: births.max().unwrap_or(0) + 1,
        }
    }

    /// How much of it there is for each of so many engines.
    pub fn rooms(&self, engines: u32) -> Vec<Room> {
        let all = self.room();
        let share = |whole: &Range<u32>, number: u32| {
            let each = whole.end / engines;
            let last = number + 1 == engines;
            number * each..if last { whole.end } else { (number + 1) * each }
        };
        let room = |number| Room {
            cells: share(&all.cells, number),
            servers: share(&all.servers, number),
            hops: share(&all.hops, number),
            first_birth: all.first_birth,
        };
        (0..engines).map(room).collect()
    }

    /// The daemon lives.
    pub fn heartbeat(&self, now: Instant) {
        self.memory.control().heartbeat.store(now.0, Release);
    }

    /// The connections in the maps, as an earlier daemon left them.
    pub fn found(&self) -> Vec<Found> {
        let cells = (0..).zip(self.memory.conns.iter());
        let found = cells.filter_map(|(i, conn)| {
            let birth = Birth(conn.birth.load(Relaxed));
            let word = conn.word.load(Relaxed);
            // One that was being written when the daemon was killed is none.
            let whole = birth.0 != 0 && word >> 32 == half(birth) >> 32;
            whole.then_some(Found {
                cell: Cell(i),
                birth,
                server: ServerCell(conn.server.load(Relaxed)),
                kept: kept::kept(&self.memory.kept.get(i as usize)?.words)?,
                seen: conn.seen(),
            })
        });
        found.collect()
    }

    /// The servers' cells in the maps, as an earlier daemon left them.
    pub fn found_servers(&self) -> Vec<ServerOrder> {
        let cells = (0..).zip(self.memory.servers.iter());
        let found = cells.filter_map(|(i, server)| {
            let generation = u32::try_from(server.generation.load(Relaxed)).ok()?;
            kept::kept_server(ServerCell(i), generation, &server.names)
        });
        found.collect()
    }
}

/// A lock, also where a thread has panicked with it: what is under these is whole after each step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
