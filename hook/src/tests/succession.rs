//! A hook that goes on in another process: here both ends are in one, with descriptors of their own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use uvs_core::flow::Protocol;
use uvs_core::testing::packets::tcp;
use uvs_core::wire::tcp::flag::ACK;

use super::direct::{Direct, end, nat};
use super::load::small;
use crate::attach::{Link, Place};
use crate::hook::{Hook, Setup, lock};
use crate::maps::VERSION;
use crate::rules::Rules;
use crate::testing::net::inside;
use crate::testing::{Arrival, Outcome};
use crate::{HookError, clsact};

#[test]
fn another_process_goes_on_and_the_first_may_until_then() {
    inside(|net| {
        let setup = small();
        let mut first = Direct::with(net, &setup);
        let ifindex = first.ifindex;
        let [client, vip, server] = [
            end("192.0.2.7", 40_000),
            end("10.0.1.100", 80),
            end("10.0.2.11", 8080),
        ];
        first.take(nat(3, 11, Protocol::Tcp, [client, vip, server]));
        first.hook.set_whole(0, Protocol::Tcp, server, true);
        let rules = first.hook.maps.rules.keys().unwrap();
        let frame = tcp(client, vip, ACK).seq(100, 200).frame();
        assert!(matches!(first.run(&frame), Outcome::Taken(_)));

        let second = Hook::beside(&setup, first.hook.hand_down_maps().unwrap()).unwrap();
        let (handed, links) = first.hook.hand_down().unwrap();
        assert_eq!(handed.descriptors(), links.len());
        second.succeed(&handed, links).unwrap();
        assert!(
            !second.is_attached(ifindex).unwrap(),
            "the first's is there"
        );
        assert!(matches!(first.run(&frame), Outcome::Taken(_)));

        second.begin(Hook::clock());
        second.set_rules(&Rules::default()).unwrap();
        assert_eq!(
            second.maps.rules.keys().unwrap(),
            rules,
            "the engine's rule"
        );
        second.attach(ifindex).unwrap();
        assert!(second.is_attached(ifindex).unwrap());
        assert!(
            !first.hook.is_attached(ifindex).unwrap(),
            "one takes the other's place"
        );
        drop(first);
        let arrival = Arrival {
            ifindex,
            ..Arrival::default()
        };
        let outcome = second.run(&frame, arrival).unwrap();
        assert!(matches!(outcome, Outcome::Taken(_)));
        assert_eq!(second.total(0).packets, 3, "all of them");
        assert_eq!(second.fill().connections, 1);
        let worker = Arc::new(second).worker().unwrap();
        drop(worker);
    });
}

#[test]
fn a_filter_goes_on_without_a_descriptor() {
    inside(|net| {
        let setup = small();
        let first = Direct::with(net, &setup);
        let at = (first.ifindex, Place::Ingress);
        // As on a kernel without tcx.
        first.hook.detach(first.ifindex);
        clsact::attach(at.0, at.1, &first.hook.programs.ingress).unwrap();
        lock(&first.hook.links).insert(at, Link::Clsact);
        let second = Hook::beside(&setup, first.hook.hand_down_maps().unwrap()).unwrap();
        let (handed, links) = first.hook.hand_down().unwrap();
        assert_eq!((handed.links.len(), links.len()), (1, 0));
        second.succeed(&handed, links).unwrap();
        drop(first);
        assert!(
            !second.is_attached(at.0).unwrap(),
            "it is the first's program"
        );
        let (id, _) = second.programs.ingress.info().unwrap();
        assert_ne!(clsact::program_at(at.0, at.1).unwrap(), Some(id));
        second.remove().unwrap();
        assert_eq!(clsact::program_at(at.0, at.1).unwrap(), None);
    });
}

#[test]
fn maps_of_another_size_or_version_are_refused() {
    inside(|net| {
        let setup = small();
        let first = Direct::with(net, &setup);
        let refused = |setup: &Setup| {
            let maps = first.hook.hand_down_maps().unwrap();
            let error = Hook::beside(setup, maps).err().unwrap();
            assert!(matches!(error, HookError::Handed(_)), "{error}");
            error.to_string()
        };
        let mut larger = setup.clone();
        larger.limits.connections *= 2;
        let said = refused(&larger);
        assert!(said.contains("hook.connections"), "{said}");
        let version = &first.hook.memory.control().version;
        version.store(VERSION + 1, Relaxed);
        assert!(refused(&setup).contains(&format!("version {}", VERSION + 1)));
        let mut fewer = first.hook.hand_down_maps().unwrap();
        fewer.pop();
        let error = Hook::beside(&setup, fewer).err().unwrap();
        assert!(error.to_string().contains("is not among them"), "{error}");
    });
}
