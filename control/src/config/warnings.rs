//! What is right in a configuration, and most likely not what its author wanted.

use std::net::IpAddr;

use uvs_core::flow::Protocol;
use uvs_core::service::{ServerSpec, ServiceKey, ServiceSpec};

use super::Config;

impl Config {
    /// A sentence for each, in the file's order; none of them keeps a daemon from running.
    pub fn warnings(&self) -> Vec<String> {
        let mut all = Vec::new();
        all.extend(self.plugin_directory());
        for service in &self.services {
            all.extend(unmeasured(service));
            all.extend(service.servers.iter().rev().filter_map(|s| own(service, s)));
        }
        all
    }

    fn plugin_directory(&self) -> Option<String> {
        let directory = self.plugins.directory.as_ref()?;
        (!directory.is_dir()).then(|| {
            format!(
                "plugins.directory: {} is not there, so no plugin is: make it, as root, or name another one",
                directory.display()
            )
        })
    }
}

/// What lrt lacks where the director sees no replies, or no handshake.
fn unmeasured(service: &ServiceSpec) -> Option<String> {
    if service.scheduler != "lrt" {
        return None;
    }
    let key = service.key;
    if !matches!(
        key,
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            ..
        }
    ) {
        return Some(format!(
            "{key}: scheduler \"lrt\" measures TCP handshakes; here it acts as wlc"
        ));
    }
    let blind = |s: &&ServerSpec| !s.forwarding.passes_replies();
    let server = service.servers.iter().rev().find(blind)?.endpoint;
    Some(format!(
        "{key}: scheduler \"lrt\" cannot measure server {server}, whose replies do not pass the director \
         (where it can measure none it acts as wlc): use mode = \"nat\" or \"fullnat\""
    ))
}

/// A server that is this very host. The kernel's IPVS takes it as well (LVS-HOWTO, "localnode").
fn own(service: &ServiceSpec, server: &ServerSpec) -> Option<String> {
    let (key, endpoint) = (service.key, server.endpoint);
    if server.forwarding.passes_replies() && IpAddr::from(endpoint.addr).is_loopback() {
        return Some(format!(
            "{key}: server {endpoint} gets nothing, since a host's stack takes nothing for a loopback address that came \
             from outside: use another address of this host"
        ));
    }
    let ServiceKey::Address { addr, .. } = key else {
        return None;
    };
    (endpoint.addr == addr).then(|| {
        format!(
            "{key}: server {endpoint} has the VIP's own address, and is this host itself: name the real server's address, \
             unless a program of this host is to answer"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::plugins::Schedulers;

    fn said(text: &str) -> Vec<String> {
        let known = &|settings: &_| Schedulers::configured(settings, None);
        parse("x.toml", text, known).expect("right").warnings()
    }

    #[test]
    fn a_plugin_directory_that_is_not_there_is_named() {
        let said = said("[plugins]\ndirectory = \"/nosuch\"\n");
        assert!(said[0].starts_with("plugins.directory: /nosuch is not there"));
    }

    #[test]
    fn servers_that_are_the_director_are_told_apart() {
        let service = |mode: &str, server: &str| {
            said(&format!(
                "[[service]]\ntcp = \"10.0.0.1:80\"\nmode = \"{mode}\"\n[[service.server]]\naddress = \"{server}\"\n"
            ))
        };
        assert!(service("nat", "127.0.0.1:8080")[0].contains("gets nothing"));
        assert!(service("dr", "10.0.0.1")[0].contains("the VIP's own address"));
        // The tutorial's local node.
        assert!(service("dr", "127.0.0.1").is_empty());
        assert!(service("nat", "10.0.0.2:8080").is_empty());
    }
}
