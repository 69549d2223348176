//! A lab for `uvs doctor`: runs it on a host, reads its findings, and runs the commands that it proposes.

use serde_json::Value;
use uvs_lab::shell::Shell;
use uvs_lab::{Families, Host, Lab, Mode, Options};

use crate::stand::{eventually, lab};

/// A lab and a shell that finds `uvs`.
pub(crate) struct DoctorLab {
    pub(crate) lab: Lab,
    pub(crate) shell: Shell,
}

/// What doctor said.
pub(crate) struct Diagnosis {
    pub(crate) code: Option<i32>,
    pub(crate) json: Value,
}

/// A finding's command, and where to run it.
pub(crate) struct Remedy {
    pub(crate) on: Option<String>,
    pub(crate) command: String,
}

impl DoctorLab {
    pub(crate) fn new(mode: Mode, options: Options) -> Self {
        let (lab, shell) = lab(mode, options);
        Self { lab, shell }
    }

    /// Runs shell lines on a host, each of which must succeed.
    pub(crate) fn run(&self, host: &Host, script: &str) -> String {
        self.shell
            .succeed(host, script)
            .unwrap_or_else(|e| panic!("on {}: {script}: {e}", host.role()))
    }

    /// Runs `uvs doctor --json` with these words behind it; `before` precedes it in the shell.
    pub(crate) fn ask_after(&self, before: &str, host: &Host, words: &str) -> Diagnosis {
        let script = format!("{before}uvs doctor --json {words}");
        let ended = self.shell.run(host, &script).expect("the shell runs");
        let json = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|e| panic!("{script}: {e}\n{ended:?}"));
        let code = ended.code;
        Diagnosis { code, json }
    }

    /// Runs `uvs doctor --json` with these words behind it.
    pub(crate) fn ask(&self, host: &Host, words: &str) -> Diagnosis {
        self.ask_after("", host, words)
    }

    /// Sets a pitfall, sees its finding, does as told, sees it gone. Doctor runs on `host` with `words`.
    pub(crate) fn found_and_fixed(
        &self,
        host: &Host,
        words: &str,
        id: &str,
        (spoilt, spoil): (&Host, &str),
    ) {
        let words = format!("{words} --only {id}");
        let before = self.ask(host, &words);
        assert!(before.of(id).is_none(), "{id}, before: {:#}", before.json);
        self.run(spoilt, spoil);
        let mut remedy = None;
        eventually(id, || {
            let told = self.ask(host, &words);
            remedy = told.of(id);
            assert_eq!(told.code == Some(1), told.errors() > 0, "{:#}", told.json);
            remedy.is_some()
        });
        let Remedy { on, command } = remedy.expect("it was waited for");
        let patient = on.map_or(host, |on| self.host_called(&on));
        self.run(patient, &command);
        eventually(&format!("{id} after {command}"), || {
            self.ask(host, &words).of(id).is_none()
        });
    }

    /// The host that a finding means: by its address or by its MAC address.
    fn host_called(&self, name: &str) -> &Host {
        for families in [Families::V4, Families::V6] {
            let servers = self.lab.plan.service(families).servers;
            if let Some(i) = servers.iter().position(|s| s.ip().to_string() == name) {
                return &self.lab.servers[i].host;
            }
        }
        let by_mac = self.lab.hosts().find(|host| {
            let mac = host.mac("eth0");
            mac.is_ok_and(|mac| name.ends_with(&mac))
        });
        by_mac.unwrap_or_else(|| panic!("no host of the lab is {name}"))
    }
}

impl Diagnosis {
    /// What fixes a finding of this check, where there is one.
    pub(crate) fn of(&self, id: &str) -> Option<Remedy> {
        let all = self.json["findings"].as_array().expect("findings");
        let found = all
            .iter()
            .find(|f| f["id"] == id && f["severity"] != "ok")?;
        let text = |v: &Value| v.as_str().map(str::to_owned);
        Some(Remedy {
            on: text(&found["fix"]["on"]),
            command: text(&found["fix"]["command"]).expect("every finding has a command"),
        })
    }

    /// What was seen by a check, whatever came of it.
    pub(crate) fn seen(&self, id: &str) -> &str {
        let all = self.json["findings"].as_array().expect("findings");
        let found = all.iter().find(|f| f["id"] == id);
        found
            .and_then(|f| f["seen"].as_str())
            .unwrap_or_else(|| panic!("{id}: {:#}", self.json))
    }

    /// Findings of severity error.
    pub(crate) fn errors(&self) -> u64 {
        self.count("error")
    }

    /// Checks that could not be made.
    pub(crate) fn not_made(&self) -> Vec<&str> {
        let all = self.json["not_made"].as_array().expect("not_made");
        assert_eq!(all.len() as u64, self.count("not_made"));
        all.iter().filter_map(|n| n["id"].as_str()).collect()
    }

    fn count(&self, what: &str) -> u64 {
        self.json["summary"][what].as_u64().expect("a count")
    }
}
