//! A director without the VIP is silent about it, whatever its table says: it answers no ARP for it, no probe
//! and no packet, announces nothing when keepalived takes the address away, and leaves what it gets for the
//! VIP to its kernel, which sends it on to who has it.

use uvs_lab::capture::Capture;
use uvs_lab::probe::{Connect, connect, echoes};
use uvs_lab::traffic::requests;
use uvs_lab::{Lab, Mode, Options, VipOwner};

use crate::arp::{answers, from_director};
use crate::stand::{eventually, lab, must_serve, run, serving};

const STANDBY: Options = Options {
    vip: VipOwner::Nobody,
    ..Options::TUTORIAL
};

/// Times that the VIP comes.
const MOMENTS: usize = 20;

#[test]
fn nobody_hears_of_a_vip_that_is_on_no_interface() {
    let (lab, shell) = lab(Mode::Dr, STANDBY);
    let mut daemon = serving(&lab);
    let vip = *lab.plan.vip.ip();
    daemon
        .wait_log(&format!("not here: {vip}"))
        .expect("it is said");
    let info = run(&lab, &shell, "uvs show info").stdout;
    assert!(info.contains("owned VIPs       -\n"), "{info}");
    assert!(
        info.contains(&format!("absent VIPs      {vip}\n")),
        "{info}"
    );
    let json = run(&lab, &shell, "uvs show info -o json").stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["absent_vips"][0], vip.to_string(), "{json:#}");
    assert_eq!(answers(&lab, vip), Vec::<String>::new());
    let words = format!("uvs trace {}:4711 {}", lab.plan.client, lab.plan.vip);
    let traced = run(&lab, &shell, &words).stdout;
    for said in [
        "not owned (own_vips)",
        "verdict      given to the director's own stack",
    ] {
        assert!(traced.contains(said), "{traced}");
    }

    // Whoever sends here all the same hears nothing: there is nobody to send it on to.
    at_the_director(&lab);
    let heard = Capture::start(&lab.client, "eth0", &from_director(&lab, "ip"), lab.dir());
    let heard = heard.expect("tcpdump listens");
    let tried = connect(&lab.client, lab.plan.vip, std::time::Duration::from_secs(2));
    assert_ne!(tried.ok(), Some(Connect::Taken));
    assert!(!echoes(&lab.client, vip).expect("a ping"));
    let heard = heard.finish(&lab.client).expect("tcpdump ends");
    let in_its_name = heard.with(&format!("{vip}."));
    assert_eq!(in_its_name, Vec::<&str>::new(), "{heard:?}");
    daemon.stop().expect("it ends well");
}

#[test]
fn a_stand_bys_kernel_sends_on_what_an_old_arp_entry_brings_it() {
    let lab = Lab::build(Mode::Dr, STANDBY).expect("the lab is built");
    // The third real server is no director, but it has the VIP and answers by itself.
    let vip = lab.plan.vip.ip();
    lab.servers[2]
        .host
        .ip(&format!("addr add {vip}/32 dev eth0"))
        .expect("added");
    let daemon = serving(&lab);
    at_the_director(&lab);
    let url = lab.plan.url("/");
    let mastered =
        requests(&lab.client, &url, 20).unwrap_or_else(|e| panic!("{e}\n{}", daemon.log()));
    assert_eq!(
        mastered.into_iter().collect::<Vec<_>>(),
        [("rs3".to_owned(), 20)]
    );
    daemon.stop().expect("it ends well");
}

#[test]
fn a_vip_that_is_taken_away_is_not_announced_and_is_served_when_it_is_back() {
    let (lab, _) = lab(Mode::Dr, Options::default());
    let mut daemon = serving(&lab);
    must_serve(&lab, &daemon);
    let vip = *lab.plan.vip.ip();
    let arp = from_director(&lab, "arp");
    let heard = Capture::start(&lab.client, "eth0", &arp, lab.dir()).expect("tcpdump listens");
    lab.director
        .ip(&format!("addr del {vip}/32 dev eth0"))
        .expect("removed");
    daemon
        .wait_log(&format!("not here: {vip}"))
        .expect("it is said");
    assert_eq!(answers(&lab, vip), Vec::<String>::new());
    let heard = heard.finish(&lab.client).expect("tcpdump ends");
    assert_eq!(heard.with(&format!("{vip}")), Vec::<&str>::new());

    lab.director
        .ip(&format!("addr add {vip}/32 dev eth0"))
        .expect("added");
    eventually("it serves again", || {
        lab.client.ip("neigh flush dev eth0").is_ok()
            && requests(&lab.client, &lab.plan.url("/"), 4).is_ok()
    });
    daemon.stop().expect("it ends well");
}

/// As keepalived moves it, under requests: the host has the address before UVS can have heard of it, and is not to
/// answer in between as who knows nothing of the service.
#[test]
fn nobody_is_refused_in_the_moment_in_which_a_vip_comes() {
    let (lab, _) = lab(Mode::Dr, STANDBY);
    let daemon = serving(&lab);
    let vip = *lab.plan.vip.ip();
    at_the_director(&lab);
    for n in 0..MOMENTS {
        let away = format!("not here: {vip}");
        eventually("it is said", || {
            daemon.log().matches(&away).count() == n + 1
        });
        lab.director
            .ip(&format!("addr add {vip}/32 dev eth0"))
            .expect("added");
        let tried = connect(&lab.client, lab.plan.vip, std::time::Duration::from_secs(5));
        assert_eq!(tried.ok(), Some(Connect::Taken), "attempt {n}");
        lab.director
            .ip(&format!("addr del {vip}/32 dev eth0"))
            .expect("removed");
    }
    daemon.stop().expect("it ends well");
}

/// The client has an ARP entry of the time when this director had the VIP.
fn at_the_director(lab: &Lab) {
    let mac = lab.director.mac("eth0").expect("a MAC address");
    let entry = format!(
        "neigh replace {} lladdr {mac} dev eth0 nud permanent",
        lab.plan.vip.ip()
    );
    lab.client.ip(&entry).expect("set");
}
