//! Schedulers are told the time once a minute, and not for every time-out the engine handles.

use std::sync::{Arc, Mutex};

use uvs_core::backend::Backend;
use uvs_core::engine::{Engine, EngineConfig};
use uvs_core::flow::{Addr, Endpoint, Flow, Protocol};
use uvs_core::outbox::Outbox;
use uvs_core::scheduler::Scheduler;
use uvs_core::service::{ServiceKey, ServiceSpec};
use uvs_core::snapshot::{Limits, Snapshot};
use uvs_core::time::Instant;

struct Listens(Arc<Mutex<Vec<u64>>>);

impl Scheduler for Listens {
    fn pick(&mut self, _: &Flow, _: &[Backend]) -> Option<usize> {
        None
    }

    fn tick(&mut self, now: Instant) {
        self.0.lock().expect("no panic").push(now.0 / 1_000_000_000);
    }
}

#[test]
fn once_a_minute() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&heard);
    let mut engine = Engine::new(EngineConfig {
        limits: Limits::default(),
        keys: (1, 2),
        seed: 3,
        modes: &[],
        crew: None,
        schedulers: Box::new(move |_, _| Some(Box::new(Listens(Arc::clone(&tell))))),
    });
    let vip = Endpoint::new(Addr::v4([10, 0, 1, 100]), 80);
    let key = ServiceKey::address(Protocol::Tcp, vip);
    let services = vec![Arc::new(ServiceSpec::new(key, "listens"))];
    let snapshot = Snapshot {
        services: services.into(),
        ..Snapshot::default()
    };
    engine.apply(Arc::new(snapshot)).expect("applied");
    for second in 1000..1200 {
        while engine.handle_timeout(Instant::from_secs(second), 16, &mut Outbox::new()) {}
    }
    let heard = heard.lock().expect("no panic");
    assert_eq!(*heard, [1000, 1060, 1120, 1180]);
}
