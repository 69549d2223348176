//! A plugin's scheduler under guard: faults cost a connection each, and too many disable the plugin.
//!
//! One [`Source`] is all services' plugin of one name. Instances look at its epoch with one atomic load
//! a pick; when it moved they go over to the new version, or give the plugin that failed another try.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uvs_core::backend::Backend;
use uvs_core::flow::{Flow, Protocol};
use uvs_core::scheduler::{Fork, Scheduler, SchedulerParams};
use uvs_core::time::Instant;

use crate::fault::{Fault, FaultCounters};
use crate::host::{Instance, Plugin};

/// What a fault returns: no server there is, so that the engine drops this one packet and counts it.
const FAULT: Option<usize> = Some(usize::MAX);

/// What takes a service over from a plugin that failed: its name, and how it is made.
pub type Fallback = (&'static str, fn() -> Box<dyn Scheduler>);

/// The plugin of one name: its present version, its faults, and who gave it up.
#[derive(Debug)]
pub struct Source {
    current: Mutex<Arc<Plugin>>,
    epoch: AtomicU64,
    faults: FaultCounters,
    max_faults: AtomicU32,
    fallback: Fallback,
    fallen_back: Mutex<Vec<(u64, String)>>,
    made: AtomicU64,
}

impl Source {
    /// A source of `plugin`'s schedulers; each falls back after `max_faults` faults, or never if that is 0.
    pub fn new(plugin: Arc<Plugin>, max_faults: u32, fallback: Fallback) -> Arc<Self> {
        Arc::new(Self {
            current: Mutex::new(plugin),
            epoch: AtomicU64::new(0),
            faults: FaultCounters::default(),
            max_faults: AtomicU32::new(max_faults),
            fallback,
            fallen_back: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
        })
    }

    /// The present version.
    pub fn plugin(&self) -> Arc<Plugin> {
        Arc::clone(&lock(&self.current))
    }

    /// Faults by reason, of all services and versions.
    pub fn faults(&self) -> &FaultCounters {
        &self.faults
    }

    /// The services that went over to the fallback.
    pub fn fallen_back(&self) -> Vec<String> {
        lock(&self.fallen_back)
            .iter()
            .map(|(_, s)| s.clone())
            .collect()
    }

    /// Sets how many faults a service takes.
    pub fn set_max_faults(&self, faults: u32) {
        self.max_faults.store(faults, Ordering::Relaxed);
    }

    /// Makes `plugin` the present version; services go over to it with their next connection. With the
    /// version that is present already, those that had given it up try it again.
    pub fn take_over(&self, plugin: Arc<Plugin>) {
        *lock(&self.current) = plugin;
        lock(&self.fallen_back).clear();
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// A scheduler for one service.
    pub fn scheduler(self: &Arc<Self>, params: &SchedulerParams) -> Box<dyn Scheduler> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let plugin = self.plugin();
        let mut supervised = Supervised {
            source: Arc::clone(self),
            id: self.made.fetch_add(1, Ordering::Relaxed),
            params: *params,
            epoch,
            faults: 0,
            active: Active::Fallback((self.fallback.1)()),
            plugin,
        };
        supervised.activate();
        Box::new(supervised)
    }
}

/// One service's scheduler.
struct Supervised {
    source: Arc<Source>,
    id: u64,
    params: SchedulerParams,
    plugin: Arc<Plugin>,
    epoch: u64,
    faults: u32,
    active: Active,
}

enum Active {
    Plugin(Instance),
    Fallback(Box<dyn Scheduler>),
}

impl Scheduler for Supervised {
    fn backends_changed(&mut self, backends: &[Backend]) {
        self.follow();
        let told = match &mut self.active {
            Active::Plugin(instance) => instance.try_backends_changed(backends),
            Active::Fallback(scheduler) => {
                scheduler.backends_changed(backends);
                Ok(())
            }
        };
        if let Err(fault) = told {
            self.record_fault(fault, None, backends);
        }
    }

    fn pick(&mut self, flow: &Flow, backends: &[Backend]) -> Option<usize> {
        if self.follow() {
            self.backends_changed(backends);
        }
        let picked = match &mut self.active {
            Active::Plugin(instance) => instance.try_pick(flow, backends),
            Active::Fallback(scheduler) => return scheduler.pick(flow, backends),
        };
        picked.unwrap_or_else(|fault| {
            self.record_fault(fault, Some(flow), backends);
            FAULT
        })
    }

    fn tick(&mut self, now: Instant) {
        let told = match &mut self.active {
            Active::Plugin(instance) => instance.try_tick(now),
            Active::Fallback(scheduler) => {
                scheduler.tick(now);
                Ok(())
            }
        };
        if let Err(fault) = told {
            // The fallback needs the set, so that it waits for the next fault.
            self.count(fault, None, &[]);
        }
    }

    /// A plugin's state cannot be copied: a new instance, whose faults do not count.
    /// Nobody knows what a plugin reads.
    fn weighs_handshakes(&self) -> bool {
        true
    }

    fn fork(&self) -> Fork {
        match &self.active {
            Active::Plugin(_) => self
                .plugin
                .instance(&self.params)
                .map_or(Fork::None, |new| Fork::Example(Box::new(new))),
            Active::Fallback(scheduler) => scheduler.fork(),
        }
    }
}

impl Supervised {
    /// Goes over to another version, or from the fallback back to the plugin, where that was asked for.
    /// Whether it did: then the scheduler that is at work now has to be told the set.
    fn follow(&mut self) -> bool {
        let epoch = self.source.epoch.load(Ordering::Acquire);
        if epoch == self.epoch {
            return false;
        }
        self.epoch = epoch;
        let plugin = self.source.plugin();
        if Arc::ptr_eq(&plugin, &self.plugin) && matches!(self.active, Active::Plugin(_)) {
            return false;
        }
        self.plugin = plugin;
        self.faults = 0;
        self.clear_fallback();
        self.activate();
        true
    }

    /// Activates an instance of the plugin, or else the fallback.
    fn activate(&mut self) {
        match self.plugin.instance(&self.params) {
            Ok(instance) => self.active = Active::Plugin(instance),
            Err(fault) => {
                self.count(fault, None, &[]);
                self.fall_back(fault, None, &[]);
            }
        }
    }

    /// Counts a fault, and falls back where it was one too many.
    fn record_fault(&mut self, fault: Fault, flow: Option<&Flow>, backends: &[Backend]) {
        self.count(fault, flow, backends);
        let max = self.source.max_faults.load(Ordering::Relaxed);
        if max != 0 && self.faults >= max {
            self.fall_back(fault, flow, backends);
        }
    }

    fn count(&mut self, fault: Fault, flow: Option<&Flow>, backends: &[Backend]) {
        self.source.faults.count(fault);
        self.faults = self.faults.saturating_add(1);
        // Once a service: a plugin that fails for every connection must not fill the log.
        if self.faults == 1 {
            tracing::warn!(
                scheduler = self.plugin.name(),
                service = service(flow, backends),
                "the scheduler plugin failed: {fault}; further faults are counted (uvs plugin list)",
            );
        }
    }

    fn fall_back(&mut self, fault: Fault, flow: Option<&Flow>, backends: &[Backend]) {
        let (name, make) = self.source.fallback;
        let service = service(flow, backends);
        tracing::error!(
            scheduler = self.plugin.name(),
            service,
            "the service falls back to {name} after {} faults of its scheduler plugin, the last: {fault}; `uvs plugin reload` tries it again",
            self.faults,
        );
        let mut scheduler = make();
        scheduler.backends_changed(backends);
        self.active = Active::Fallback(scheduler);
        lock(&self.source.fallen_back).push((self.id, service));
    }

    fn clear_fallback(&self) {
        lock(&self.source.fallen_back).retain(|(id, _)| *id != self.id);
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.clear_fallback();
    }
}

/// What a scheduler knows of its service: where the flow goes, or which servers it has.
fn service(flow: Option<&Flow>, backends: &[Backend]) -> String {
    if let Some(flow) = flow {
        let protocol = Protocol::from_number(flow.protocol).map_or("?", Protocol::name);
        return format!("{protocol} {}", flow.destination());
    }
    match backends.first() {
        Some(b) => format!("the one of server {}:{}", b.addr, b.port),
        None => "one that has just been made".to_owned(),
    }
}

/// What is locked is whole at any time, so a panic elsewhere is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
