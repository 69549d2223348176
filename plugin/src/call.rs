//! What a plugin is doing at this moment: written by the worker that waits for it, and read by others, who want to know what
//! a worker that is silent is busy with. Nothing here is waited for.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// The function of an instance that is running, if any.
#[derive(Debug, Default)]
pub(crate) struct Call {
    /// When it began, by CLOCK_MONOTONIC; 0 = none is.
    since_ns: AtomicU64,
    function: AtomicU8,
    /// The instance's service, once that is known.
    service: OnceLock<String>,
}

/// A function of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Function {
    Create,
    BackendsChanged,
    Pick,
    Tick,
    Destroy,
}

const NAMES: [&str; 5] = ["create", "backends_changed", "pick", "tick", "destroy"];

impl Call {
    /// Calls the function, at this time.
    pub(crate) fn during<T>(&self, function: Function, now_ns: u64, work: impl FnOnce() -> T) -> T {
        self.begin(function, now_ns);
        let done = work();
        self.end();
        done
    }

    /// The function is about to be called.
    pub(crate) fn begin(&self, function: Function, now_ns: u64) {
        self.function.store(function as u8, Ordering::Relaxed);
        self.since_ns.store(now_ns, Ordering::Release);
    }

    /// It has returned.
    fn end(&self) {
        self.since_ns.store(0, Ordering::Release);
    }

    /// Says which service the instance is for, unless that was said.
    pub(crate) fn name_service(&self, service: impl FnOnce() -> String) {
        self.service.get_or_init(service);
    }

    /// What has not returned since before `than`.
    pub(crate) fn longer(&self, than: Duration, now_ns: u64) -> Option<Unreturned> {
        let since = self.since_ns.load(Ordering::Acquire);
        let time = Duration::from_nanos(now_ns.saturating_sub(since));
        (since != 0 && time > than).then(|| Unreturned {
            function: NAMES[usize::from(self.function.load(Ordering::Relaxed))],
            service: self.service.get().cloned(),
            time,
        })
    }
}

/// A plugin's function that has not returned.
#[derive(Clone, Debug)]
pub struct Unreturned {
    function: &'static str,
    service: Option<String>,
    time: Duration,
}

impl fmt::Display for Unreturned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}() has not returned for {} s",
            self.function,
            self.time.as_secs()
        )?;
        match &self.service {
            Some(service) => write!(f, ", for {service}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_returned_is_named() {
        let call = Call::default();
        let said = |now_ns: u64| {
            let longer = call.longer(Duration::from_secs(1), now_ns * 1_000_000_000);
            longer.map(|unreturned| unreturned.to_string())
        };
        assert_eq!(said(9), None);
        call.begin(Function::BackendsChanged, 2_000_000_000);
        assert_eq!(said(3), None);
        let expected = "backends_changed() has not returned for 4 s";
        assert_eq!(said(6).as_deref(), Some(expected));
        call.name_service(|| "TCP 192.0.2.1:80".to_owned());
        call.begin(Function::Pick, 2_000_000_000);
        let expected = "pick() has not returned for 3 s, for TCP 192.0.2.1:80";
        assert_eq!(said(5).as_deref(), Some(expected));
        call.end();
        assert_eq!(said(9), None);
    }
}
