//! A plugin's scheduler under guard: faults cost a connection each, a pick that is too slow is a fault too, and too many
//! disable the plugin.
//!
//! One [`Source`] is all services' plugin of one name. Instances look at its epoch with one atomic load
//! a pick; when it moved they go over to the new version, or give the plugin that failed another try.

use std::mem::replace;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use uvs_core::backend::Backend;
use uvs_core::flow::{Flow, Protocol};
use uvs_core::plugins::{self, PickTimes, PluginFault, PluginNumbers};
use uvs_core::scheduler::{Fork, Scheduler, SchedulerParams};
use uvs_core::time::Instant;

use crate::call::{Call, Function, Unreturned};
use crate::fault::{Fault, FaultCounters};
use crate::host::{Instance, Plugin};
use crate::pace::Pace;
use crate::stopwatch::now_ns;

/// What a fault returns: no server there is, so that the engine drops this one packet and counts it.
const FAULT: Option<usize> = Some(usize::MAX);

/// What takes a service over from a plugin that failed: its name, and how it is made.
pub type Fallback = (&'static str, fn() -> Box<dyn Scheduler>);

/// How much is borne of a plugin; by default anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tolerance {
    /// Faults after which a service falls back; 0 = never.
    pub max_faults: u32,
    /// What a pick may take; 0 = any time.
    pub budget: Duration,
}

/// The plugin of one name: its present version, its faults, and who gave it up.
#[derive(Debug)]
pub struct Source {
    current: Mutex<Arc<Plugin>>,
    epoch: AtomicU64,
    faults: FaultCounters,
    max_faults: AtomicU32,
    budget_ns: AtomicU64,
    fallback: Fallback,
    fallen_back: Mutex<Vec<(u64, String)>>,
    made: AtomicU64,
    calls: Mutex<Vec<Weak<Call>>>,
}

impl Source {
    /// A source of `plugin`'s schedulers.
    pub fn new(plugin: Arc<Plugin>, tolerance: Tolerance, fallback: Fallback) -> Arc<Self> {
        let source = Self {
            current: Mutex::new(plugin),
            epoch: AtomicU64::new(0),
            faults: FaultCounters::default(),
            max_faults: AtomicU32::new(0),
            budget_ns: AtomicU64::new(0),
            fallback,
            fallen_back: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            calls: Mutex::new(Vec::new()),
        };
        source.tolerate(tolerance);
        Arc::new(source)
    }

    /// The present version.
    pub fn plugin(&self) -> Arc<Plugin> {
        Arc::clone(&lock(&self.current))
    }

    /// Faults by reason, of all services and versions.
    pub fn faults(&self) -> &FaultCounters {
        &self.faults
    }

    /// The services that went over to the fallback, each once.
    pub fn fallen_back(&self) -> Vec<String> {
        let mut services: Vec<String> = lock(&self.fallen_back)
            .iter()
            .map(|(_, s)| s.clone())
            .collect();
        // One in each worker, which may have fallen back in any order.
        services.sort();
        services.dedup();
        services
    }

    /// Sets how much is borne, from the next pick on.
    pub fn tolerate(&self, tolerance: Tolerance) {
        let budget = u64::try_from(tolerance.budget.as_nanos()).unwrap_or(u64::MAX);
        self.max_faults
            .store(tolerance.max_faults, Ordering::Relaxed);
        self.budget_ns.store(budget, Ordering::Relaxed);
    }

    /// Makes `plugin` the present version; services go over to it with their next connection. With the
    /// version that is present already, those that had given it up try it again. These are returned.
    pub fn take_over(&self, plugin: Arc<Plugin>) -> Vec<String> {
        let services = self.fallen_back();
        *lock(&self.current) = plugin;
        lock(&self.fallen_back).clear();
        self.epoch.fetch_add(1, Ordering::Release);
        let plugin = self.plugin();
        for service in &services {
            tracing::info!(
                scheduler = plugin.name(),
                service,
                "the service's fall-back to {} is over: it tries its plugin again, version {}",
                self.fallback.0,
                plugin.version(),
            );
        }
        services
    }

    /// The functions of its instances that have not returned for so long.
    pub fn unreturned(&self, than: Duration) -> Vec<Unreturned> {
        let now = now_ns();
        let calls = lock(&self.calls);
        let calls = calls.iter().filter_map(Weak::upgrade);
        calls.filter_map(|call| call.longer(than, now)).collect()
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
            told: Told::default(),
            pace: Pace::new(),
            picks: PickTimes::default(),
            fell_back: None,
            active: Active::Fallback((self.fallback.1)()),
            plugin,
            call: self.call(),
        };
        supervised.activate();
        Box::new(supervised)
    }

    /// A call to be looked at for as long as its instance is there.
    fn call(&self) -> Arc<Call> {
        let call = Arc::new(Call::default());
        let mut calls = lock(&self.calls);
        calls.retain(|known| known.strong_count() > 0);
        calls.push(Arc::downgrade(&call));
        call
    }

    fn tolerance(&self) -> Tolerance {
        Tolerance {
            max_faults: self.max_faults.load(Ordering::Relaxed),
            budget: Duration::from_nanos(self.budget_ns.load(Ordering::Relaxed)),
        }
    }
}

/// One service's scheduler.
struct Supervised {
    source: Arc<Source>,
    id: u64,
    params: SchedulerParams,
    plugin: Arc<Plugin>,
    epoch: u64,
    /// But for slow picks, which may be forgiven and are counted in `pace`.
    faults: u32,
    told: Told,
    pace: Pace,
    picks: PickTimes,
    /// When, by CLOCK_MONOTONIC, and why the fallback took over, where it did.
    fell_back: Option<(u64, PluginFault)>,
    active: Active,
    /// After `active`, whose last function it is about.
    call: Arc<Call>,
}

/// What the log has of a plugin already: a plugin that fails for every connection must not fill it.
#[derive(Default)]
struct Told {
    fault: bool,
    slow: bool,
}

enum Active {
    Plugin(Instance),
    Fallback(Box<dyn Scheduler>),
}

impl Scheduler for Supervised {
    fn backends_changed(&mut self, backends: &[Backend]) {
        self.follow();
        let told = match &mut self.active {
            Active::Plugin(instance) => {
                let work = || instance.try_backends_changed(backends);
                self.call.during(Function::BackendsChanged, now_ns(), work)
            }
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
        let instance = match &mut self.active {
            Active::Plugin(instance) => instance,
            Active::Fallback(scheduler) => return scheduler.pick(flow, backends),
        };
        let watch = self.pace.start();
        self.call.name_service(|| service(Some(flow), backends));
        let work = || instance.try_pick(flow, backends);
        let picked = self.call.during(Function::Pick, watch.began_ns(), work);
        let took = watch.elapsed_ns();
        self.picks.record(took);
        match picked {
            Ok(picked) => {
                let budget = self.source.tolerance().budget;
                // What came late is as good as any.
                if let Some(slow) = self.pace.judge(&watch, took, budget) {
                    self.record_fault(slow, Some(flow), backends);
                }
                picked
            }
            Err(fault) => {
                self.record_fault(fault, Some(flow), backends);
                FAULT
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        let told = match &mut self.active {
            Active::Plugin(instance) => {
                let work = || instance.try_tick(now);
                self.call.during(Function::Tick, now_ns(), work)
            }
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

    /// Nobody knows what a plugin reads.
    fn weighs_handshakes(&self) -> bool {
        true
    }

    fn numbers(&self) -> Option<PluginNumbers> {
        // What the fallback has been told to end is over, though it has not heard of it yet.
        let current = self.source.epoch.load(Ordering::Acquire) == self.epoch;
        let fell_back = self.fell_back.filter(|_| current);
        Some(PluginNumbers {
            picks: self.picks,
            over_budget: self.pace.over_budget,
            fallback: fell_back.map(|(at, fault)| plugins::Fallback {
                ago: Duration::from_nanos(now_ns().saturating_sub(at)).as_secs(),
                fault,
                workers: 1,
            }),
        })
    }

    /// A plugin's state cannot be copied: a new instance, whose faults do not count.
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
        self.told = Told::default();
        self.pace.begin_anew();
        self.fell_back = None;
        self.clear_fallback();
        self.activate();
        true
    }

    /// Activates an instance of the plugin, or else the fallback.
    fn activate(&mut self) {
        let work = || self.plugin.instance(&self.params);
        let made = self.call.during(Function::Create, now_ns(), work);
        match made {
            Ok(instance) => self.put_to_work(Active::Plugin(instance)),
            Err(fault) => {
                self.count(fault, None, &[]);
                self.fall_back(fault, None, &[]);
            }
        }
    }

    fn put_to_work(&mut self, scheduler: Active) {
        let before = replace(&mut self.active, scheduler);
        self.call
            .during(Function::Destroy, now_ns(), || drop(before));
    }

    /// Counts a fault, and falls back where it was one too many.
    fn record_fault(&mut self, fault: Fault, flow: Option<&Flow>, backends: &[Backend]) {
        self.count(fault, flow, backends);
        let max = self.source.tolerance().max_faults;
        if max != 0 && self.faults() >= max {
            self.fall_back(fault, flow, backends);
        }
    }

    const fn faults(&self) -> u32 {
        self.faults.saturating_add(self.pace.late())
    }

    fn count(&mut self, fault: Fault, flow: Option<&Flow>, backends: &[Backend]) {
        self.source.faults.count(fault);
        let told = if fault.kind() == PluginFault::Slow {
            &mut self.told.slow
        } else {
            self.faults = self.faults.saturating_add(1);
            &mut self.told.fault
        };
        if !replace(told, true) {
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
            "the service falls back to {name} after {} faults of its scheduler plugin, the last: {fault}; `uvs plugin retry {}` tries it again",
            self.faults(),
            self.plugin.name(),
        );
        let mut scheduler = make();
        scheduler.backends_changed(backends);
        self.put_to_work(Active::Fallback(scheduler));
        self.fell_back = Some((now_ns(), fault.kind()));
        lock(&self.source.fallen_back).push((self.id, service));
    }

    /// Whether it was listed.
    fn clear_fallback(&self) -> Option<String> {
        let mut fallen_back = lock(&self.source.fallen_back);
        let place = fallen_back.iter().position(|(id, _)| *id == self.id)?;
        Some(fallen_back.swap_remove(place).1)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // Its instance is dropped next, and may not return from that.
        self.call.begin(Function::Destroy, now_ns());
        if let Some(service) = self.clear_fallback() {
            tracing::info!(
                scheduler = self.plugin.name(),
                service,
                "the service's fall-back to {} is over: the service is gone, or has another scheduler",
                self.source.fallback.0,
            );
        }
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
