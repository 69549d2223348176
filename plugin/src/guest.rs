//! The guest's side: any [`Scheduler`] as a [`Table`], for [`export_scheduler!`](crate::export_scheduler).
//!
//! A panic must not leave a function that C calls (Rust would end the process), so each one catches what
//! the scheduler throws and returns [`PANICKED`]. That needs unwinding, which the macro checks.

use std::ffi::{CStr, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use uvs_core::backend::Backend;
use uvs_core::flow::Flow;
use uvs_core::narrow;
use uvs_core::scheduler::{Scheduler, SchedulerParams};
use uvs_core::time::Instant;

use crate::abi::{ABI, NAME_MAX, NONE, PANICKED, Params, Table};

/// A scheduler and how it is made; the macro implements it.
pub trait Export {
    /// The scheduler.
    type Scheduler: Scheduler;

    /// Makes one for a service.
    fn create(params: &SchedulerParams) -> Self::Scheduler;
}

/// Exports a scheduler from this library (crate type `cdylib`).
///
/// ```
/// # use uvs_plugin::{Backend, Flow, Scheduler, SchedulerParams};
/// #[derive(Default)]
/// struct First;
///
/// impl Scheduler for First {
///     fn pick(&mut self, _flow: &Flow, backends: &[Backend]) -> Option<usize> {
///         backends.iter().position(Backend::is_available)
///     }
/// }
///
/// uvs_plugin::export_scheduler!("first", First, deterministic);
/// ```
///
/// It is made by `Default::default()`, or by `new = PATH` of type `fn(&SchedulerParams) -> First`. With
/// `deterministic` it claims that instances with the same seed and history pick the same servers, which
/// `uvs plugin check` then tries. Version and description are those of the crate's Cargo.toml.
#[macro_export]
macro_rules! export_scheduler {
    ($name:literal, $type:ty) => {
        $crate::export_scheduler!(@ $name, $type, |_| <$type as Default>::default(), 0);
    };
    ($name:literal, $type:ty, deterministic) => {
        $crate::export_scheduler!(@ $name, $type, |_| <$type as Default>::default(), $crate::abi::DETERMINISTIC);
    };
    ($name:literal, $type:ty, new = $new:expr) => {
        $crate::export_scheduler!(@ $name, $type, $new, 0);
    };
    ($name:literal, $type:ty, new = $new:expr, deterministic) => {
        $crate::export_scheduler!(@ $name, $type, $new, $crate::abi::DETERMINISTIC);
    };
    (@ $name:literal, $type:ty, $new:expr, $claims:expr) => {
        #[cfg(panic = "abort")]
        compile_error!("a scheduler plugin needs `panic = \"unwind\"`: a panic would end the daemon");

        const _: () = {
            struct Exported;

            impl $crate::guest::Export for Exported {
                type Scheduler = $type;

                fn create(params: &$crate::SchedulerParams) -> $type {
                    let new: fn(&$crate::SchedulerParams) -> $type = $new;
                    new(params)
                }
            }

            static TABLE: $crate::abi::Table = $crate::guest::table::<Exported>(
                $crate::guest::name(concat!($name, "\0")),
                $crate::guest::text(concat!(env!("CARGO_PKG_VERSION"), "\0")),
                $crate::guest::text(concat!(env!("CARGO_PKG_DESCRIPTION"), "\0")),
                $claims,
            );

            #[unsafe(no_mangle)]
            extern "C" fn uvs_scheduler() -> *const $crate::abi::Table {
                &TABLE
            }
        };
    };
}

/// The table of an exported scheduler.
pub const fn table<E: Export>(
    name: &'static CStr,
    version: &'static CStr,
    about: &'static CStr,
    claims: u64,
) -> Table {
    Table {
        abi: ABI,
        size: narrow::to_u32(size_of::<Table>()),
        backend_size: narrow::to_u32(size_of::<Backend>()),
        flow_size: narrow::to_u32(size_of::<Flow>()),
        name: name.as_ptr(),
        version: version.as_ptr(),
        about: about.as_ptr(),
        claims,
        create: Some(create::<E>),
        destroy: Some(destroy::<E::Scheduler>),
        backends_changed: Some(backends_changed::<E::Scheduler>),
        pick: Some(pick::<E::Scheduler>),
        tick: Some(tick::<E::Scheduler>),
    }
}

/// A scheduler's name with its NUL; a wrong one does not compile.
///
/// # Panics
/// While compiling.
pub const fn name(text: &'static str) -> &'static CStr {
    let length = text.len() - 1;
    assert!(
        length >= 1 && length <= NAME_MAX,
        "a scheduler's name has 1 to 15 bytes, as ipvsadm takes it"
    );
    let mut i = 0;
    while i < length {
        assert!(
            crate::abi::is_name_byte(text.as_bytes()[i]),
            "a scheduler's name is made of letters, digits, '-', '_' and '.'"
        );
        i += 1;
    }
    self::text(text)
}

/// A string with its NUL.
///
/// # Panics
/// While compiling, where there is another NUL within.
pub const fn text(text: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("a NUL within the text"),
    }
}

unsafe extern "C" fn create<E: Export>(params: *const Params) -> *mut c_void {
    // SAFETY: the host passes a pointer to parameters of this ABI's layout.
    let params = unsafe { *params };
    let new = || Box::into_raw(Box::new(E::create(&params.into())));
    caught(new).map_or(null_mut(), <*mut _>::cast)
}

unsafe extern "C" fn destroy<S: Scheduler>(state: *mut c_void) {
    // SAFETY: `state` came from `create`, which made it by Box::into_raw of an S, and is passed here once.
    let state = unsafe { Box::from_raw(state.cast::<S>()) };
    caught(|| drop(state));
}

unsafe extern "C" fn backends_changed<S: Scheduler>(
    state: *mut c_void,
    backends: *const Backend,
    count: usize,
) -> i32 {
    // SAFETY: `state` came from `create`, and the host uses it from one thread at a time.
    let state = unsafe { &mut *state.cast::<S>() };
    // SAFETY: the host passes a slice's pointer, which is never null, and its length.
    let backends = unsafe { std::slice::from_raw_parts(backends, count) };
    status(caught(|| state.backends_changed(backends)))
}

unsafe extern "C" fn pick<S: Scheduler>(
    state: *mut c_void,
    flow: *const Flow,
    backends: *const Backend,
    count: usize,
) -> i64 {
    // SAFETY: `state` came from `create`, and the host uses it from one thread at a time.
    let state = unsafe { &mut *state.cast::<S>() };
    // SAFETY: the host passes a pointer to a flow.
    let flow = unsafe { &*flow };
    // SAFETY: the host passes a slice's pointer, which is never null, and its length.
    let backends = unsafe { std::slice::from_raw_parts(backends, count) };
    match caught(|| state.pick(flow, backends)) {
        // An index beyond i64 is none of a server's; the host says so of the largest as well.
        Some(Some(index)) => i64::try_from(index).unwrap_or(i64::MAX),
        Some(None) => NONE,
        None => PANICKED,
    }
}

unsafe extern "C" fn tick<S: Scheduler>(state: *mut c_void, now: u64) -> i32 {
    // SAFETY: `state` came from `create`, and the host uses it from one thread at a time.
    let state = unsafe { &mut *state.cast::<S>() };
    status(caught(|| state.tick(Instant(now))))
}

#[expect(clippy::cast_possible_truncation, reason = "PANICKED is -2")]
const fn status(done: Option<()>) -> i32 {
    match done {
        Some(()) => 0,
        None => PANICKED as i32,
    }
}

/// `None` where the scheduler panicked. The panic hook has printed its message by then.
fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // Its destructor is the author's too and might panic again.
            std::mem::forget(payload);
            None
        }
    }
}
