//! The maps: which there are, how large, made anew or opened where an earlier daemon pinned them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use uvs_core::flow::Direction;
use uvs_core::offload;
use uvs_core::tcp::{self, TcpState};
use uvs_core::wire::tcp::flag as bit;

use crate::error::HookError;
use crate::layout::{
    CELLS, Conn, Control, EVENTS, Hop, Kept, Leg, REMOVALS, Removal, STATES, Server, Total, bytes,
    step,
};
use crate::sys::map::{MMAPABLE, Map, NO_PREALLOC, Shape, kind};
use crate::sys::memory::{Array, Shared};

/// How much there may be at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are taken or known.
    pub connections: u32,
    /// Real servers.
    pub servers: u32,
    /// Next hops.
    pub hops: u32,
    /// Rules that need no connection, and addresses in them.
    pub rules: u32,
    /// Ports.
    pub ports: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            servers: 4096,
            hops: 4096,
            rules: 65_536,
            ports: 256,
        }
    }
}

/// The version of what lies in the maps, the places of the modes among it: those of another version are neither opened
/// where they are pinned, nor taken over.
pub(crate) const VERSION: u64 = 3;
/// Datagrams in fragments that are remembered.
const FRAGMENTS: u32 = 16_384;
/// Bytes of the ring of events: 43,690 of them.
const RING: u32 = 1 << 20;

macro_rules! maps {
    ($($name:ident),* $(,)?) => {
        /// All maps.
        pub(crate) struct Maps { $(pub(crate) $name: Map,)* }

        impl Maps {
            /// What they are called.
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Makes them.
            pub(crate) fn create(limits: &Limits) -> Result<Self, HookError> {
                let make = |name: &'static str| {
                    let made = Map::create(name, shape(name, limits));
                    made.map_err(|e| HookError::refused(format!("make the map `{name}`"), e))
                };
                Ok(Self { $($name: make(stringify!($name))?,)* })
            }

            /// Opens the pinned ones.
            pub(crate) fn open(pins: &Path, limits: &Limits) -> Result<Self, HookError> {
                Ok(Self { $($name: open(pins, stringify!($name), limits)?,)* })
            }

            /// Has the ones that another process hands over, in the order of [`Maps::NAMES`].
            pub(crate) fn succeed(handed: Vec<OwnedFd>, limits: &Limits) -> Result<Self, HookError> {
                let mut handed = handed.into_iter();
                let maps = Self { $($name: succeed(handed.next(), stringify!($name), limits)?,)* };
                match handed.next() {
                    Some(_) => Err(HookError::Handed("they are more maps than this release has".to_owned())),
                    None => Ok(maps),
                }
            }

            /// The one of this name.
            pub(crate) fn get(&self, name: &str) -> Option<&Map> {
                match name {
                    $(stringify!($name) => Some(&self.$name),)*
                    _ => None,
                }
            }
        }
    };
}

maps! {
    control, flows4, flows6, conns, legs, hops, servers, totals, counted, ports, cells, states, events, removals,
    rules, addresses, networks, fragments, kept,
}

/// What each is.
fn shape(name: &str, limits: &Limits) -> Shape {
    let shape = |kind, key, value, entries, flags| Shape {
        kind,
        key,
        value,
        entries,
        flags,
    };
    let connections = limits.connections;
    let hash = |key, value, entries| shape(kind::HASH, key, value, entries, 0);
    match name {
        "control" => array::<Control>(1),
        "flows4" => hash(16, 8, connections * 2),
        "flows6" => hash(40, 8, connections * 2),
        "conns" => array::<Conn>(connections),
        "legs" => array::<Leg>(connections * 2),
        "hops" => array::<Hop>(limits.hops),
        "servers" => array::<Server>(limits.servers),
        "totals" => shape(kind::PERCPU_ARRAY, 4, 16, limits.servers * 2, 0),
        "counted" => array::<Total>(connections * 2),
        "ports" => hash(4, 4, limits.ports),
        "cells" => shape(kind::PERCPU_ARRAY, 4, 16, limits.ports * CELLS, 0),
        "states" => shape(
            kind::ARRAY,
            4,
            8,
            moves().count().try_into().unwrap_or(u32::MAX),
            0,
        ),
        "events" => shape(kind::RINGBUF, 0, 0, RING, 0),
        "removals" => array::<Removal>(REMOVALS.try_into().unwrap_or(u32::MAX)),
        "rules" => hash(24, 8, limits.rules),
        "addresses" => hash(16, 8, limits.rules),
        "networks" => shape(kind::LPM_TRIE, 20, 128, limits.rules, NO_PREALLOC),
        "fragments" => shape(kind::LRU_HASH, 40, 8, FRAGMENTS, 0),
        _ => array::<Kept>(connections),
    }
}

fn array<T: Shared>(entries: u32) -> Shape {
    Shape {
        kind: kind::ARRAY,
        key: 4,
        value: u32::try_from(size_of::<T>()).unwrap_or(u32::MAX),
        entries,
        flags: MMAPABLE,
    }
}

fn open(pins: &Path, name: &'static str, limits: &Limits) -> Result<Map, HookError> {
    let path = pins.join(name);
    let map = match Map::open(&path) {
        Ok(map) => map,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let what = "it is not there";
            return Err(HookError::Layout { path, what });
        }
        Err(e) => return Err(HookError::refused(format!("open {}", path.display()), e)),
    };
    if !has_shape(&map, &shape(name, limits)) {
        let what = "another kind of map, or other limits";
        return Err(HookError::Layout { path, what });
    }
    Ok(map)
}

/// A map of this name that another process hands over.
fn succeed(handed: Option<OwnedFd>, name: &str, limits: &Limits) -> Result<Map, HookError> {
    let handed = handed.ok_or_else(|| HookError::Handed(format!("`{name}` is not among them")))?;
    let map = Map::of(handed).map_err(|e| HookError::refused("take a map over", e))?;
    let (is, wanted) = (map.shape(), shape(name, limits));
    if has_shape(&map, &wanted) {
        return Ok(map);
    }
    let sizes = |shape: &Shape| format!("{} of {} bytes", shape.entries, shape.value);
    Err(HookError::Handed(format!(
        "`{name}` has {}, and {} are wanted here (how many may depend on hook.connections)",
        sizes(&is),
        sizes(&wanted)
    )))
}

/// Whether a map is of this kind and size; it may have flags beside those that are wanted.
fn has_shape(map: &Map, wanted: &Shape) -> bool {
    let is = map.shape();
    let same = Shape {
        flags: wanted.flags,
        ..is
    } == *wanted;
    same && is.flags & wanted.flags == wanted.flags
}

/// Enters TCP's states, from the engine's own table, for good.
pub(crate) fn enter_states(states: &Map) -> Result<(), HookError> {
    let keys: Vec<u8> = (0..states.shape().entries)
        .flat_map(u32::to_le_bytes)
        .collect();
    let values: Vec<u64> = moves().collect();
    let entered = states.update_batch(&keys, &bytes(&values));
    entered.map_err(|(_, e)| HookError::refused("enter TCP's states", e))?;
    let frozen = states.freeze();
    frozen.map_err(|e| HookError::refused("freeze TCP's states", e))
}

/// All moves, in the order of `bpf/layout.h`.
pub(crate) fn moves() -> impl Iterator<Item = u64> {
    const DIRECTIONS: [Direction; 3] = [Direction::Input, Direction::Output, Direction::InputOnly];
    const FLAGS: [u8; EVENTS] = [bit::SYN, bit::FIN, bit::ACK, bit::RST, 0];
    const _: () = assert!(TcpState::ALL.len() == STATES);
    let rows = [false, true]
        .into_iter()
        .flat_map(|strict| DIRECTIONS.map(|direction| (strict, direction)));
    let events = rows.flat_map(|(strict, direction)| FLAGS.map(|f| (strict, direction, f)));
    events.flat_map(|(strict, direction, flags)| {
        TcpState::ALL.map(|before| {
            let after = tcp::next(before, direction, flags, strict);
            let says = |is: bool, what: u64| if is { what } else { 0 };
            u64::from(after as u8)
                | says(before.is_synchronized(), step::SYNCHRONIZED)
                | says(offload::is_told(before as u8, after as u8), step::TOLD)
                | says(
                    after == TcpState::Established && before != after,
                    step::PROVEN,
                )
        })
    })
}

/// The maps whose memory this process reads and writes as the program does.
pub(crate) struct Memory {
    pub(crate) control: Array<Control>,
    pub(crate) conns: Array<Conn>,
    pub(crate) legs: Array<Leg>,
    pub(crate) hops: Array<Hop>,
    pub(crate) servers: Array<Server>,
    pub(crate) counted: Array<Total>,
    pub(crate) removals: Array<Removal>,
    pub(crate) kept: Array<Kept>,
}

impl Memory {
    /// Maps it.
    pub(crate) fn map(maps: &Maps) -> Result<Self, HookError> {
        fn of<T: Shared>(map: &Map) -> Result<Array<T>, HookError> {
            Array::map(map).map_err(|e| HookError::refused("map a map's memory", e))
        }
        Ok(Self {
            control: of(&maps.control)?,
            conns: of(&maps.conns)?,
            legs: of(&maps.legs)?,
            hops: of(&maps.hops)?,
            servers: of(&maps.servers)?,
            counted: of(&maps.counted)?,
            removals: of(&maps.removals)?,
            kept: of(&maps.kept)?,
        })
    }

    /// What holds for everything.
    pub(crate) fn control(&self) -> &Control {
        &self.control[0]
    }
}
