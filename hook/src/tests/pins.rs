//! What outlives the daemon: pinned maps, links that go on, filters where there are no links.

use std::path::PathBuf;
use std::process::Command;

use uvs_core::flow::Protocol;
use uvs_core::testing::packets::tcp;
use uvs_core::wire::tcp::flag::ACK;

use super::direct::{Direct, end, nat};
use super::load::small;
use crate::attach::Place;
use crate::clsact;
use crate::hook::{Hook, Setup};
use crate::pins::LINK;
use crate::testing::net::{Net, inside, run};
use crate::testing::{Arrival, Outcome};
use crate::{HookError, Way};

/// A BPF file system of the test's own, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("uvs-hook-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        run("mount", &["-t", "bpf", "bpf", dir.to_str().unwrap()]);
        Self(dir)
    }

    fn setup(&self) -> Setup {
        Setup {
            pins: Some(self.0.join("uvs")),
            ..small()
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
        drop(std::fs::remove_dir(&self.0));
    }
}

fn ends() -> [uvs_core::flow::Endpoint; 3] {
    [
        end("192.0.2.7", 40_000),
        end("10.0.1.100", 80),
        end("10.0.2.11", 8080),
    ]
}

#[test]
fn a_daemon_adopts_what_one_before_it_has_pinned() {
    inside(|net| {
        let mount = Mount::new("adopt");
        let setup = mount.setup();
        let mut first = Direct::with(net, &setup);
        let ifindex = first.ifindex;
        let taken = nat(3, 11, Protocol::Tcp, ends());
        first.take(taken);
        let frame = tcp(ends()[0], ends()[1], ACK).seq(100, 200).frame();
        assert!(matches!(first.run(&frame), Outcome::Taken(_)));
        let seen = first.hook.found()[0].seen;
        // One that was just ending when it was killed.
        let [_, vip, server] = ends();
        let ending = nat(4, 9, Protocol::Tcp, [end("192.0.2.8", 1), vip, server]);
        first.take(ending);
        first.hook.memory.conns[4].clear();
        // The daemon dies: nothing of it is taken away.
        drop(first);

        let second = Hook::adopt(&setup, Hook::clock()).unwrap();
        let found = second.found();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].cell, found[0].birth), (taken.cell, taken.birth));
        assert_eq!((found[0].kept, found[0].seen), (taken.kept, seen));
        assert_eq!(second.found_servers().len(), 1);
        assert_eq!(second.maps.flows4.keys().unwrap().len(), 2, "of one alone");
        assert_eq!(second.room().first_birth, 12);
        assert_eq!(second.fill().connections, 1);
        // The earlier program is still at the port, and gives way to this one.
        assert!(!second.is_attached(ifindex).unwrap());
        let attached = second.attach(ifindex).unwrap();
        assert_eq!(attached.others, 0);
        assert!(second.is_attached(ifindex).unwrap());
        let arrival = Arrival {
            ifindex,
            ..Arrival::default()
        };
        assert!(matches!(
            second.run(&frame, arrival).unwrap(),
            Outcome::Taken(_)
        ));
        assert_eq!(second.total(0).packets, 2, "figures do not fall");

        second.remove().unwrap();
        assert!(!second.is_attached(ifindex).unwrap());
        assert!(!setup.pins.clone().unwrap().exists());
        let gone = Hook::adopt(&setup, Hook::clock());
        assert!(matches!(gone.err(), Some(HookError::Layout { .. })));
    });
}

#[test]
fn what_is_pinned_otherwise_is_not_adopted_and_leaves_without_a_load() {
    inside(|net| {
        let mount = Mount::new("other");
        let setup = mount.setup();
        let first = Direct::with(net, &setup);
        let ifindex = first.ifindex;
        drop(first);
        let mut larger = setup.clone();
        larger.limits.connections *= 2;
        let error = Hook::adopt(&larger, Hook::clock()).err().unwrap();
        assert!(matches!(error, HookError::Layout { .. }), "{error}");
        // Somebody has put another map into a pin's place.
        let dir = setup.pins.clone().unwrap();
        std::fs::rename(dir.join("rules"), dir.join("legs")).unwrap();
        let error = Hook::adopt(&setup, Hook::clock()).err().unwrap();
        assert!(error.to_string().contains("legs"), "{error}");
        // A new hook takes the old one's place, and the ports'.
        let hook = Hook::load(&larger, Hook::clock()).unwrap();
        hook.attach(ifindex).unwrap();
        assert!(hook.is_attached(ifindex).unwrap());
        drop(hook);

        let there = crate::leftovers(&dir).unwrap();
        assert!(there.pinned.iter().any(|p| p.ends_with("conns")));
        crate::remove_leftovers(&dir).unwrap();
        assert!(crate::leftovers(&dir).unwrap().is_empty());
        assert_eq!(links_at(ifindex), 0, "links go with their pins");
    });
}

/// How many tcx links there are; none where the kernel has none.
fn links_at(ifindex: u32) -> usize {
    let ids = crate::sys::program::at_tcx(ifindex, Place::Ingress.tcx());
    ids.map_or(0, |ids| ids.len())
}

#[test]
fn a_link_ends_at_once_even_while_somebody_has_it_open() {
    inside(|net| {
        let mount = Mount::new("open");
        let setup = mount.setup();
        let ifindex = net.interface("c0", "02:00:00:00:01:01");
        let hook = Hook::load(&setup, Hook::clock()).unwrap();
        if hook.attach(ifindex).unwrap().way == Way::Clsact {
            // A filter is no link.
            return;
        }
        let pin = setup.pins.unwrap().join(format!("{LINK}{ifindex}-ingress"));
        let open = || crate::sys::map::open_pinned(&pin).unwrap();
        let held = open();
        hook.detach(ifindex);
        assert_eq!(links_at(ifindex), 0, "taken from the interface");
        hook.attach(ifindex).unwrap();
        let held = (held, open());
        hook.remove().unwrap();
        assert_eq!(links_at(ifindex), 0, "taken away with everything");
        drop(held);
    });
}

#[test]
fn a_folder_of_another_file_system_is_refused_and_left_alone() {
    let dir = std::env::temp_dir().join(format!("uvs-hook-{}-plain", std::process::id()));
    let setup = Setup {
        pins: Some(dir.clone()),
        ..small()
    };
    let error = Hook::load(&setup, Hook::clock()).err().unwrap().to_string();
    assert!(error.contains("mount -t bpf bpf /sys/fs/bpf"), "{error}");
    assert!(!dir.exists());
}

#[test]
fn a_filter_does_where_there_is_no_link() {
    inside(|net: &Net| {
        let ifindex = net.interface("c0", "02:00:00:00:01:01");
        let hook = Hook::load(&small(), Hook::clock()).unwrap();
        let (id, _) = hook.programs.ingress.info().unwrap();
        for place in [Place::Ingress, Place::Egress] {
            assert_eq!(clsact::program_at(ifindex, place).unwrap(), None);
            clsact::attach(ifindex, place, &hook.programs.ingress).unwrap();
            // A second time is the same filter.
            clsact::attach(ifindex, place, &hook.programs.ingress).unwrap();
            assert!(clsact::is_attached(ifindex, place, id).unwrap());
            clsact::detach(ifindex, place).unwrap();
            assert_eq!(clsact::program_at(ifindex, place).unwrap(), None);
        }
        clsact::attach(ifindex, Place::Ingress, &hook.programs.ingress).unwrap();
        let nowhere = std::path::Path::new("/proc/uvs");
        assert_eq!(crate::leftovers(nowhere).unwrap().filters, [ifindex]);
        crate::remove_leftovers(nowhere).unwrap();
        assert!(crate::leftovers(nowhere).unwrap().is_empty());
    });
}

#[test]
fn somebody_elses_program_stays_and_comes_later() {
    inside(|net| {
        let ifindex = net.interface("c0", "02:00:00:00:01:01");
        let [other, hook] = [0, 1].map(|_| Hook::load(&small(), Hook::clock()).unwrap());
        let attached = other.attach(ifindex).unwrap();
        if attached.way == Way::Clsact {
            // There, the two would be one filter, as there is one daemon.
            return;
        }
        assert_eq!(hook.attach(ifindex).unwrap().others, 1);
        let order = crate::sys::program::at_tcx(ifindex, Place::Ingress.tcx()).unwrap();
        let id = |hook: &Hook| hook.programs.ingress.info().unwrap().0;
        assert_eq!(order, [id(&hook), id(&other)]);
        hook.detach(ifindex);
        assert!(other.is_attached(ifindex).unwrap());
    });
}

#[test]
fn an_interface_that_is_gone_is_named() {
    inside(|_| {
        let hook = Hook::load(&small(), Hook::clock()).unwrap();
        let error = hook.attach(9999).unwrap_err().to_string();
        assert!(
            error.contains("interface 9999") && error.contains("it is gone"),
            "{error}"
        );
    });
}
