//! The ABI: one exported function, which returns a table of functions over plain data.
//!
//! The same definitions for C are in `include/uvs_scheduler.h`; the assertions here and there hold the same
//! numbers, and `tests/header.rs` has a C compiler compare the two field by field. Whatever changes a
//! layout changes [`ABI`]; a new field in the place of reserved bytes does not, as long as 0, which those
//! were, means "not known" in it: plugins and hosts from before it work with those from after.

use std::ffi::{CStr, c_char, c_void};

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::scheduler::SchedulerParams;

/// The version of all that is defined here; a host runs plugins of exactly this one.
pub const ABI: u32 = 1;

/// The one symbol a plugin exports: an [`Entry`].
pub const SYMBOL: &CStr = c"uvs_scheduler";

/// The type of the exported function. The table it returns is never changed and lives as long as the process.
pub type Entry = unsafe extern "C" fn() -> *const Table;

/// The longest name a scheduler may have, in bytes: ipvsadm's.
pub const NAME_MAX: usize = 15;

/// A claim: instances with the same seed and history pick the same servers.
pub const DETERMINISTIC: u64 = 1;

/// What `pick` returns to refuse the connection; an index otherwise.
pub const NONE: i64 = -1;
/// What any function returns where a panic was caught: the connection is refused and the fault counted.
pub const PANICKED: i64 = -2;

/// What `create` is given.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// Seed of any randomness.
    pub seed: u64,
    /// The service's scheduler flags, as IPVS numbers them.
    pub flags: u32,
    /// Entries of a look-up table of settable size; 0 = the scheduler's default.
    pub table_size: u32,
}

/// A plugin's scheduler. Only `pick` must be there; the host does nothing in place of the others.
///
/// `create` makes the state of one service, which every other function gets as its first argument; without
/// `create` that is null. One state is used by one thread at a time, several states by several threads.
/// Functions that return an `i32` return 0, or a number below it where they failed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// [`ABI`].
    pub abi: u32,
    /// The size of this table.
    pub size: u32,
    /// The size of a [`Backend`].
    pub backend_size: u32,
    /// The size of a [`Flow`].
    pub flow_size: u32,
    /// What `ipvsadm -s` calls it: 1 to 15 letters, digits, `-`, `_` or `.`.
    pub name: *const c_char,
    /// The plugin's version, such as `1.2.0`: the highest one takes over.
    pub version: *const c_char,
    /// One line about the algorithm.
    pub about: *const c_char,
    /// [`DETERMINISTIC`], or 0.
    pub claims: u64,
    /// Makes the state of one service; null where it cannot.
    pub create: Option<unsafe extern "C" fn(*const Params) -> *mut c_void>,
    /// Frees a state.
    pub destroy: Option<unsafe extern "C" fn(*mut c_void)>,
    /// [`Scheduler::backends_changed`](uvs_core::scheduler::Scheduler::backends_changed).
    pub backends_changed: Option<unsafe extern "C" fn(*mut c_void, *const Backend, usize) -> i32>,
    /// [`Scheduler::pick`](uvs_core::scheduler::Scheduler::pick): an index, or [`NONE`].
    pub pick: Option<unsafe extern "C" fn(*mut c_void, *const Flow, *const Backend, usize) -> i64>,
    /// [`Scheduler::tick`](uvs_core::scheduler::Scheduler::tick), with the time in nanoseconds.
    pub tick: Option<unsafe extern "C" fn(*mut c_void, u64) -> i32>,
}

const _: () = assert!(size_of::<Flow>() == 40 && align_of::<Flow>() == 2);
const _: () = assert!(size_of::<Backend>() == 48 && align_of::<Backend>() == 8);
const _: () = assert!(size_of::<Params>() == 16 && align_of::<Params>() == 8);
// Four numbers, three texts, the claims, five functions.
const _: () =
    assert!(size_of::<Table>() == 4 * 4 + 3 * size_of::<Text>() + 8 + 5 * size_of::<Text>());
type Text = *const c_char;

// SAFETY: a table is constant data; its pointers lead to constant strings and to functions that the ABI
// asks to be callable from any thread.
unsafe impl Sync for Table {}
// SAFETY: as above.
unsafe impl Send for Table {}

impl From<SchedulerParams> for Params {
    fn from(p: SchedulerParams) -> Self {
        Self {
            seed: p.seed,
            flags: p.flags,
            table_size: p.table_size,
        }
    }
}

impl From<Params> for SchedulerParams {
    fn from(p: Params) -> Self {
        Self {
            flags: p.flags,
            seed: p.seed,
            table_size: p.table_size,
        }
    }
}

/// Whether a scheduler's name may have this byte.
pub const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}
