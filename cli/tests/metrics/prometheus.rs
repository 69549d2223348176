//! Debian's Prometheus on one lab's director, which scrapes the exporters of all labs once a second.

use std::fs;
use std::path::Path;
use std::thread::Scope;

use serde_json::Value;
use uvs_lab::process::{Process, SOON};
use uvs_lab::{Host, Lab, tools};

use crate::relay::{self, Relay};

pub(crate) const PROGRAM: &str = "prometheus";
/// Where alerts say that the documentation is.
pub(crate) const DOCS: &str = "https://docs.example";
const API: &str = "http://127.0.0.1:9090/api/v1/query";
/// The exporters as Prometheus finds them: its own director's, and the relays to the others'.
const FIRST_PORT: u16 = 9650;

/// A running Prometheus, which scrapes once a second.
pub(crate) struct Prometheus<'a> {
    host: &'a Host,
    process: Process,
}

impl<'a> Prometheus<'a> {
    /// Starts it on the first lab's director, to scrape that one and [`relays`] to the others'.
    pub(crate) fn start(labs: &'a [Lab], storage: &Path) -> Self {
        let lab = &labs[0];
        let targets: String = (FIRST_PORT..).zip(labs).map(target).collect();
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exporter/rules/uvs.rules.yml");
        let config = lab.dir().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {{uvs_docs: '{DOCS}'}}}}\n\
             rule_files: [\"{}\"]\n\
             scrape_configs: [{{job_name: uvs, static_configs: [{targets}]}}]\n",
            rules.canonicalize().expect("the rules").display()
        );
        fs::write(&config, text).expect("written");
        let words = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", storage.display()),
            "--web.listen-address=127.0.0.1:9090".to_owned(),
            "--query.lookback-delta=10s".to_owned(),
        ];
        let command = tools::command(PROGRAM, words).expect("installed");
        let log = lab.dir().join("prometheus.log");
        let mut process = lab.director.spawn(command, &log).expect("it starts");
        process
            .wait_ready(SOON, |p| {
                p.log().contains("Server is ready to receive web requests")
            })
            .expect("ready");
        Self {
            host: &lab.director,
            process,
        }
    }

    /// An instant query's results; an error is fatal.
    pub(crate) fn query(&self, expr: &str) -> Vec<Value> {
        let query = format!("query={expr}");
        let words = ["-s", "-S", "-G", "--data-urlencode", &query, API];
        let command = tools::command("curl", words).expect("installed");
        let printed = self.host.output(command, SOON).expect("an answer").stdout;
        let answer: Value = serde_json::from_str(&printed).expect("JSON");
        assert_eq!(answer["status"], "success", "{expr}: {printed}");
        answer["data"]["result"]
            .as_array()
            .expect("a vector")
            .clone()
    }

    /// Ends it, so that what it has stored is whole.
    pub(crate) fn stop(mut self) {
        self.process.stop().expect("stopped");
    }
}

/// A target that bears its lab's name, as it would a host's.
fn target((port, lab): (u16, &Lab)) -> String {
    let mode = lab.plan.mode;
    format!("{{targets: ['127.0.0.1:{port}'], labels: {{instance: 'director-{mode}'}}}},")
}

/// Brings the exporters of all labs but the first to the first's director.
pub(crate) fn relays<'s, 'e>(scope: &'s Scope<'s, 'e>, labs: &'e [Lab]) -> Vec<Relay> {
    let ports = (FIRST_PORT..).zip(labs).skip(1);
    let home = &labs[0].director;
    ports
        .map(|(port, lab)| relay::start(scope, home, port, &lab.director))
        .collect()
}
