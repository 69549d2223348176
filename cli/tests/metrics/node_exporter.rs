//! Debian's node_exporter, unmodified, over the files that `uvs export prom-files` writes, says what UVS's own
//! exporter says under `metrics.compat = "node_ipvs"`.

use std::fs;

use uvs_lab::process::SOON;
use uvs_lab::traffic::requests;
use uvs_lab::{Daemon, Lab, Mode, Options, tools};

use crate::scrape::Scrape;

const PROGRAM: &str = "prometheus-node-exporter";
const LISTEN: &str = "127.0.0.1:9100";

#[test]
fn node_exporter_agrees_with_our_own_numbers() {
    if tools::find(PROGRAM).is_err() {
        println!("skipped: {PROGRAM} is not installed (apt-get install {PROGRAM})");
        return;
    }
    let lab = Lab::build(Mode::Nat, Options::default()).expect("a lab");
    let config = lab.dir().join("uvs.toml");
    let plan = &lab.plan;
    let servers = plan
        .servers
        .map(|s| format!("[[service.server]]\naddress = \"{s}\"\nmode = \"nat\"\nweight = 2\n"));
    let text = format!(
        "interfaces = [\"eth0\", \"eth1\"]\n[metrics]\ncompat = \"node_ipvs\"\n\
         [[service]]\ntcp = \"{}\"\nscheduler = \"rr\"\n{}",
        plan.vip,
        servers.concat()
    );
    fs::write(&config, text).expect("written");
    let uvs = std::path::Path::new(env!("CARGO_BIN_EXE_uvs"));
    let line = format!("run --config {}", config.display());
    let daemon = Daemon::start_with(&lab, uvs, &line).expect("the daemon");
    // It answers once its configuration is in force.
    daemon.ipvsadm("-ln").expect("an answer");
    requests(&lab.client, &plan.url("/"), 30).expect("answers");
    daemon.ipvsadm(&plan.edit_server(1, 0)).expect("quiesced");

    let proc = lab.dir().join("proc");
    let export = format!("export prom-files {}", proc.display());
    daemon.uvs(&export).expect("written");
    let mut command = tools::command(
        PROGRAM,
        [
            "--collector.disable-defaults",
            "--collector.ipvs",
            &format!("--web.listen-address={LISTEN}"),
            &format!("--path.procfs={}", proc.display()),
        ],
    )
    .expect("installed");
    command.env("GOMAXPROCS", "1");
    let log = lab.dir().join("node_exporter.log");
    let mut theirs = lab.director.spawn(command, &log).expect("it starts");
    theirs
        .wait_ready(SOON, |p| p.log().contains("Listening on"))
        .expect("it listens");
    // The kernel's totals, and so ours, move every two seconds; the connections go on to end.
    Scrape::until(&lab.director, "agreement", |ours| {
        daemon.uvs(&export).expect("written");
        let url = format!("curl -s -S -f http://{LISTEN}/metrics");
        let theirs = Scrape::text(lab.director.run(&url).expect("an answer"));
        let (ours, theirs) = (numbers(ours), numbers(&theirs));
        ours.len() == 5 + 3 * 3 && ours == theirs
    });
    drop(theirs);
    daemon.stop().expect("stopped");
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts, connections and weights are whole and not negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

/// Series by name, labels in alphabetical order, and value.
fn numbers(scrape: &Scrape) -> Vec<(String, Vec<String>, u64)> {
    let parse = |line: &&str| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let mut labels: Vec<String> = labels.map(str::to_owned).collect();
        labels.sort_unstable();
        let value: f64 = value.parse().expect("a number");
        (name.to_owned(), labels, whole(value))
    };
    let mut all: Vec<_> = scrape.lines("node_ipvs_").iter().map(parse).collect();
    all.sort_unstable();
    all
}
