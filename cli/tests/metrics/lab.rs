//! In every mode: what clients counted is what the metrics say, and every frame is explained.

use std::path::Path;

use uvs_lab::traffic::{download, requests};
use uvs_lab::{Daemon, Lab, Mode, Options, SERVERS, VipOwner};

use crate::scrape::Scrape;

/// A multiple of the weights' cycle.
const REQUESTS: u32 = 60;
const WEIGHTS: [u32; SERVERS] = [3, 1, 2];

pub(crate) fn uvs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_uvs"))
}

/// A daemon in a lab, its real servers prepared, and the lab's service in it.
pub(crate) fn start<'a>(lab: &'a Lab, weights: [u32; SERVERS]) -> Daemon<'a> {
    lab.prepare_servers(uvs()).expect("the real servers");
    let daemon = lab.start_daemon(uvs()).expect("the daemon");
    daemon.ipvsadm(&lab.plan.add_service("wrr")).expect("added");
    for (server, weight) in weights.into_iter().enumerate() {
        let line = lab.plan.add_server(server, weight);
        daemon.ipvsadm(&line).expect("added");
    }
    daemon
}

#[test]
fn dr_is_counted_as_its_clients_count() {
    agree(Mode::Dr, Options::default());
}

#[test]
fn nat_is_counted_as_its_clients_count() {
    agree(Mode::Nat, Options::default());
}

#[test]
fn fullnat_is_counted_as_its_clients_count() {
    agree(Mode::FullNat, Options::default());
}

#[test]
fn ipip_is_counted_as_its_clients_count() {
    agree(Mode::Ipip, Options::default());
}

/// UVS answers ARP for the VIP here, which is traffic of its own making.
#[test]
fn a_vip_of_uvs_own_is_counted_as_its_clients_count() {
    let options = Options {
        vip: VipOwner::Uvs,
        ..Options::default()
    };
    agree(Mode::Dr, options);
}

fn agree(mode: Mode, options: Options) {
    let lab = Lab::build(mode, options).expect("a lab");
    let daemon = start(&lab, WEIGHTS);
    let answers = requests(&lab.client, &lab.plan.url("/"), REQUESTS).expect("answers");
    // Super-frames, segments and, through a tunnel, packets that are too big.
    let content = lab.content("2M", 2 << 20).expect("content");
    let scratch = lab.dir().join("scratch");
    let received = download(&lab.client, &lab.plan.url("/2M"), &scratch).expect("a download");
    received.must_equal(&content).expect("equal");
    // Nobody listens there: answered, dropped or left to the kernel, but explained.
    let vip = lab.plan.vip.ip();
    let _ = lab.client.run(&format!("curl -s -m 1 http://{vip}:81/"));

    let scrape = Scrape::until(&lab.director, "all frames at rest", |s| {
        s.sum("uvs_service_connections_total", &[]) >= f64::from(REQUESTS + 1) && at_rest(s)
    });
    for (server, address) in lab.servers.iter().zip(&lab.plan.servers) {
        let rip = address.ip().to_string();
        let labels = [("rip", rip.as_str()), ("mode", mode.name())];
        let own = u32::from(received.server == server.name());
        let answered = answers.get(server.name()).copied().unwrap_or_default() + own;
        let counted = scrape.sum("uvs_backend_connections_total", &labels);
        assert_eq!(counted, f64::from(answered), "{}", server.name());
    }
    let replies_pass = matches!(mode, Mode::Nat | Mode::FullNat);
    let out = scrape.sum("uvs_service_bytes_total", &[("direction", "out")]);
    assert_eq!(out > f64::from(2 << 20), replies_pass, "{out}");
    explained(&lab, &scrape);
    assert_eq!(scrape.sum("uvs_ready", &[]), 1.0);
    daemon.stop().expect("stopped");
}

/// Whether no frame waits in a ring or for a MAC address.
fn at_rest(s: &Scrape) -> bool {
    s.sum("uvs_rx_packets_total", &[]) == s.sum("uvs_frames_received_total", &[])
        && s.sum("uvs_frames_waiting", &[]) == 0.0
}

/// Both equations of docs/metrics.md, per interface.
fn explained(lab: &Lab, s: &Scrape) {
    for interface in &lab.plan.interfaces {
        let on = |name, more: &[(&str, &str)]| {
            let labels = [&[("interface", interface.as_str())], more].concat();
            s.sum(name, &labels)
        };
        let ends = on("uvs_frames_forwarded_total", &[])
            + on("uvs_frames_answered_total", &[])
            + on("uvs_frames_held_total", &[])
            + on("uvs_frames_passed_total", &[])
            + on("uvs_frames_local_total", &[])
            + on("uvs_drops_total", &[("stage", "input")]);
        let received = on("uvs_frames_received_total", &[]);
        assert_eq!(received, ends, "{interface}");
        assert_eq!(received, on("uvs_rx_packets_total", &[]), "{interface}");
        let in_kernel = on("uvs_frames_in_kernel_total", &[]);
        assert!(received + in_kernel > 0.0, "{interface}");
        let gone = on("uvs_tx_packets_total", &[])
            + on("uvs_frames_waiting", &[])
            + on("uvs_drops_total", &[("stage", "output")]);
        assert_eq!(on("uvs_frames_handed_total", &[]), gone, "{interface}");
        assert_eq!(on("uvs_frames_unaccounted", &[]), 0.0);
        assert_eq!(on("uvs_frames_unsent", &[]), 0.0);
    }
}

#[test]
fn a_server_without_link_is_down_and_frames_for_it_are_explained() {
    let lab = Lab::build(Mode::Dr, Options::default()).expect("a lab");
    let daemon = start(&lab, [1, 1, 1]);
    let rip = lab.plan.servers[0].ip().to_string();
    let down = [("rip", rip.as_str())];
    Scrape::until(&lab.director, "all servers up", |s| {
        s.sum("uvs_service_backends", &[("state", "up")]) == 3.0
    });
    // The director forgets the neighbour, as it would after the kernel's own time-outs.
    lab.servers[0].host.ip("link set eth0 down").expect("down");
    lab.director
        .run(&format!("ip neigh flush to {rip}"))
        .expect("flushed");
    Scrape::until(&lab.director, "one server down", |s| {
        s.sum("uvs_backend_up", &down) == 0.0
            && s.sum("uvs_service_backends", &[("state", "down")]) == 1.0
    });
    for _ in 0..3 {
        let _ = lab
            .client
            .run(&format!("curl -s -m 1 {}", lab.plan.url("/")));
    }
    let lost = [("reason", "neighbour_unresolved"), ("stage", "output")];
    let scrape = Scrape::until(&lab.director, "frames given up", |s| {
        s.sum("uvs_drops_total", &lost) > 0.0 && at_rest(s)
    });
    explained(&lab, &scrape);
    daemon.stop().expect("stopped");
}

#[test]
fn zeroing_and_reloading_leave_the_counters_alone() {
    let lab = Lab::build(Mode::Nat, Options::default()).expect("a lab");
    let daemon = start(&lab, WEIGHTS);
    requests(&lab.client, &lab.plan.url("/"), 6).expect("answers");
    let connections = |s: &Scrape| s.sum("uvs_service_connections_total", &[]);
    let six = |s: &Scrape| connections(s) == 6.0;
    Scrape::until(&lab.director, "six connections", six);
    daemon.ipvsadm("-Z").expect("zeroed");
    requests(&lab.client, &lab.plan.url("/"), 6).expect("answers");
    Scrape::until(&lab.director, "twelve connections", |s| {
        connections(s) == 12.0
    });
    // There is no file to reload: a failure, seen as such.
    assert!(daemon.uvs("reload").is_err());
    let failed = [("result", "failure")];
    let scrape = Scrape::until(&lab.director, "a failed reload", |s| {
        s.sum("uvs_config_reloads_total", &failed) == 1.0
    });
    assert_eq!(connections(&scrape), 12.0);
    assert_eq!(scrape.sum("uvs_config_last_reload_successful", &[]), 0.0);
    // No server takes new connections: refused, by reason.
    for server in 0..SERVERS {
        let line = lab.plan.edit_server(server, 0);
        daemon.ipvsadm(&line).expect("quiesced");
    }
    assert!(requests(&lab.client, &lab.plan.url("/"), 1).is_err());
    Scrape::until(&lab.director, "a refused connection", |s| {
        s.sum("uvs_schedule_failures_total", &[("reason", "no_backend")]) >= 1.0
            && s.sum(
                "uvs_icmp_sent_total",
                &[("type", "destination_unreachable")],
            ) >= 1.0
    });
    daemon.stop().expect("stopped");
}
