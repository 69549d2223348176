//! What follows from a snapshot follows from it alone, whatever was desired before; and what is looked at for it is
//! what has changed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::marks::MarkRule;
use crate::service::ConnectionLog;

fn service(n: u16) -> ServiceSpec {
    let key = match n % 5 {
        4 => ServiceKey::Mark {
            mark: u32::from(n) + 1,
            ipv6: false,
        },
        _ => {
            let [high, low] = n.to_be_bytes();
            let vip = Endpoint::new(Addr::v4([10, 1, high, low]), 80);
            let protocol = [Protocol::Tcp, Protocol::Udp][usize::from(n % 5 == 3)];
            ServiceKey::address(protocol, vip)
        }
    };
    let mut spec = ServiceSpec::new(key, "rr");
    spec.engine = (n % 2 == 1).then(|| "sip".to_owned());
    spec
}

/// Few servers, so that services share them.
fn server(n: u8) -> ServerSpec {
    let ways = [
        Forwarding::Nat,
        Forwarding::Dr,
        Forwarding::FullNat,
        Forwarding::Tunnel,
    ];
    let at = Endpoint::new(Addr::v4([10, 2, 0, n % 6]), 80);
    ServerSpec::new(at, ways[usize::from(n % 4)])
}

#[derive(Clone, Debug)]
enum Edit {
    Add(u16),
    Remove(usize),
    Server(usize, u8),
    NoServers(usize),
    Local(usize, u8),
    Log(usize, bool),
    Mark(u32, u8),
    NoMarks,
    Own(Vec<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let any = any::<usize>;
    prop_oneof![
        4 => (0..40_u16).prop_map(Edit::Add),
        2 => any().prop_map(Edit::Remove),
        4 => (any(), 0..24_u8).prop_map(|(at, n)| Edit::Server(at, n)),
        1 => any().prop_map(Edit::NoServers),
        1 => (any(), 0..3_u8).prop_map(|(at, n)| Edit::Local(at, n)),
        1 => (any(), proptest::bool::ANY).prop_map(|(at, on)| Edit::Log(at, on)),
        2 => (1..40_u32, 0..5_u8).prop_map(|(mark, n)| Edit::Mark(mark, n)),
        1 => Just(Edit::NoMarks),
        1 => vec(0..9_u8, 0..3).prop_map(Edit::Own),
    ]
}

fn make(edit: Edit, snapshot: &mut Snapshot) {
    let services = &mut snapshot.services;
    let count = services.len();
    match edit {
        Edit::Add(n) if services.iter().all(|s| s.key != service(n).key) => {
            services.push(Arc::new(service(n)));
        }
        Edit::Remove(at) if count > 0 => {
            let gone = services[at % count].key;
            *services = services.iter().filter(|s| s.key != gone).cloned().collect();
        }
        Edit::Server(at, n) if count > 0 => {
            let spec = Arc::make_mut(&mut services[at % count]);
            spec.servers.retain(|s| s.endpoint != server(n).endpoint);
            spec.servers.push(server(n));
        }
        Edit::NoServers(at) if count > 0 => {
            Arc::make_mut(&mut services[at % count]).servers.clear();
        }
        Edit::Local(at, n) if count > 0 => {
            let local = Addr::v4([10, 3, 0, n]);
            Arc::make_mut(&mut services[at % count]).local = vec![local];
        }
        Edit::Log(at, on) if count > 0 => {
            let log = &mut Arc::make_mut(&mut services[at % count]).connection_log;
            *log = match on {
                true => ConnectionLog::Ends,
                false => ConnectionLog::Off,
            };
        }
        Edit::Mark(mark, n) => {
            let to = Destination::host(Protocol::Udp, Addr::v4([10, 4, 0, n]), 53);
            snapshot.marks.retain(|rule| rule.to != to);
            snapshot.marks.push(MarkRule { mark, to });
        }
        Edit::NoMarks => snapshot.marks.clear(),
        Edit::Own(vips) => {
            snapshot.owned_vips = vips.iter().map(|n| Addr::v4([10, 1, 0, *n])).collect();
        }
        Edit::Add(_)
        | Edit::Remove(_)
        | Edit::Server(..)
        | Edit::NoServers(_)
        | Edit::Local(..)
        | Edit::Log(..) => {}
    }
}

/// All that packets ask for, but for the slots' numbers.
fn assert_same(step_by_step: &Desired, at_once: &Desired) {
    let counted = |d: &Desired| {
        (
            d.vips.clone(),
            d.repliers.clone(),
            d.nat_servers.clone(),
            d.callers.clone(),
            d.replier_addrs.clone(),
            d.locals.clone(),
            d.logged.clone(),
            d.tunnels.clone(),
            d.tunnel_addrs.clone(),
        )
    };
    assert_eq!(counted(step_by_step), counted(at_once));
    assert_eq!(step_by_step.owned, at_once.owned);
    let marks = |d: &Desired| -> Vec<Option<u32>> {
        let of = |n| {
            let to = Endpoint::new(Addr::v4([10, 4, 0, n]), 53);
            let flow = Flow::new(Protocol::Udp, Endpoint::new(Addr::v4([10, 9, 9, 9]), 7), to);
            d.marks.as_ref().map(|marks| marks.of(&flow, |_| false))
        };
        (0..5).map(of).collect()
    };
    assert_eq!(marks(step_by_step), marks(at_once));
    assert_eq!(step_by_step.slots.len(), at_once.services().len());
    for spec in at_once.services().iter() {
        let slot = step_by_step.slot(&spec.key).expect("a slot");
        assert_eq!(step_by_step.service(slot), spec);
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_what_was_desired_before(edits in vec(vec(edit(), 1..4), 1..40)) {
        let mut snapshot = Snapshot::default();
        let mut desired = Desired::default();
        for batch in edits {
            batch.into_iter().for_each(|edit| make(edit, &mut snapshot));
            desired.take_up(Arc::new(snapshot.clone()));
            assert_same(&desired, &Desired::of(Arc::new(snapshot.clone())));
        }
    }
}

#[test]
fn of_ten_thousand_services_the_one_that_changed_is_looked_at() {
    let mut snapshot = Snapshot {
        services: (0..10_000).map(|n| Arc::new(service(n))).collect(),
        ..Snapshot::default()
    };
    let mut desired = Desired::of(Arc::new(snapshot.clone()));
    let changed = snapshot.services[5000].key;
    Arc::make_mut(&mut snapshot.services[5000])
        .servers
        .push(server(0));
    let changes = desired.take_up(Arc::new(snapshot.clone()));
    let slot = desired.slot(&changed).expect("a slot");
    assert_eq!((changes.removed, changes.set), (vec![], vec![slot]));
}
