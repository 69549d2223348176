//! What is in force besides services, by the keys of the configuration file: `uvs show config`.

use uvs_control::client::DEFAULT_SOCKET;
use uvs_control::config::{
    Confinement, ConnectionLogging, Hook, HostFirewall, Listen, Metrics, OwnVips,
};
use uvs_control::plugins::{DEFAULT_BUDGET, DEFAULT_DIRECTORY};
use uvs_control::protocol::{Answers, HookMode, Refusal, Setting, ask};
use uvs_core::snapshot::{Limits, Sysctls, Timeouts};

use super::Daemon;
use crate::confinement;

impl Answers<ask::Settings> for Daemon {
    fn answer(&mut self, _: ask::Settings) -> Result<Vec<Setting>, Refusal> {
        let file = self.options.file.as_ref();
        let mut all = vec![
            setting(
                "file",
                file.map_or_else(none, |f| f.display().to_string()),
                none(),
            ),
            setting("interfaces", self.interfaces.join(","), none()),
            setting("own_vips", self.table.own_vips(), OwnVips::default()),
            setting("socket", self.options.socket.display(), DEFAULT_SOCKET),
        ];
        all.extend(limits(&self.limits));
        all.extend(timeouts(self.table.timeouts()));
        all.extend(metrics(&self.metrics));
        all.push(setting(
            "host_firewall",
            self.host_firewall.name(),
            HostFirewall::default().name(),
        ));
        all.push(connection_log(self.options.config.connection_log.as_ref()));
        all.extend(hook(&self.options.config.hook, self.options.hook));
        all.extend(confinement(confinement::wanted()));
        let plugins = self.list_plugins().directory;
        all.push(setting("plugins.directory", plugins, DEFAULT_DIRECTORY));
        let budget = self.options.schedulers.budget().as_micros();
        all.push(setting("plugins.scheduler_budget", budget, DEFAULT_BUDGET));
        all.extend(Sysctls::NAMES.iter().filter_map(|name| {
            let value = self.table.sysctl(name).ok()?;
            let default = Sysctls::default().get(name)?;
            Some(setting(&format!("sysctl.{name}"), value, default))
        }));
        Ok(all)
    }
}

fn connection_log(now: Option<&ConnectionLogging>) -> Setting {
    let to = now.map_or_else(none, |log| log.to.to_string());
    setting("connection_log.to", to, none())
}

fn limits(now: &Limits) -> [Setting; 3] {
    let default = Limits::default();
    let ports = |l: &Limits| format!("{}-{}", l.local_ports.0, l.local_ports.1);
    [
        setting("limits.connections", now.connections, default.connections),
        setting("limits.local_ports", ports(now), ports(&default)),
        setting(
            "limits.fragment_bytes",
            now.fragment_bytes,
            default.fragment_bytes,
        ),
    ]
}

fn timeouts(now: Timeouts) -> [Setting; 3] {
    let default = Timeouts::default();
    [
        setting("timeouts.tcp", now.tcp, default.tcp),
        setting("timeouts.tcp_fin", now.tcp_fin, default.tcp_fin),
        setting("timeouts.udp", now.udp, default.udp),
    ]
}

fn metrics(now: &Metrics) -> [Setting; 3] {
    let default = Metrics::default();
    let address = |listen: Listen| {
        listen
            .address()
            .map_or_else(|| "off".to_owned(), |a| a.to_string())
    };
    let compat = |m: &Metrics| {
        if m.node_ipvs {
            "node_ipvs".to_owned()
        } else {
            none()
        }
    };
    [
        setting(
            "metrics.address",
            address(now.listen),
            address(default.listen),
        ),
        setting(
            "metrics.max_backends",
            now.max_backends,
            default.max_backends,
        ),
        setting("metrics.compat", compat(now), compat(&default)),
    ]
}

fn hook(now: &Hook, mode: HookMode) -> [Setting; 4] {
    let default = Hook::default();
    [
        setting("hook.mode", mode.name(), HookMode::default().name()),
        setting("hook.connections", now.connections, default.connections),
        setting("hook.heartbeat", now.heartbeat, default.heartbeat),
        setting("hook.pins", now.pins.display(), default.pins.display()),
    ]
}

fn confinement(now: Confinement) -> [Setting; 2] {
    let default = Confinement::default();
    let capabilities = |c: Confinement| if c.drops_capabilities { "drop" } else { "keep" };
    [
        setting(
            "confinement.capabilities",
            capabilities(now),
            capabilities(default),
        ),
        setting(
            "confinement.seccomp",
            now.seccomp.name(),
            default.seccomp.name(),
        ),
    ]
}

fn setting(key: &str, value: impl ToString, default: impl ToString) -> Setting {
    Setting {
        key: key.to_owned(),
        value: value.to_string(),
        default: default.to_string(),
    }
}

fn none() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_configuration() {
        let defaults = [
            limits(&Limits::default()),
            timeouts(Timeouts::default()),
            metrics(&Metrics::default()),
        ];
        let hook = hook(&Hook::default(), HookMode::default());
        let confinement = confinement(Confinement::default());
        let confinement = confinement.iter();
        for setting in defaults.iter().flatten().chain(&hook).chain(confinement) {
            assert_eq!(setting.value, setting.default, "{}", setting.key);
        }
        let fewer = Limits {
            connections: 7,
            ..Limits::default()
        };
        assert_eq!(
            limits(&fewer)[0],
            setting("limits.connections", 7, 1_000_000)
        );
    }
}
