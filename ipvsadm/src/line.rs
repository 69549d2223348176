//! A command with its options, which describe a service or a server.

use uvs_control::protocol::{Change, SyncRequest, SyncRole};
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::{
    Forwarding, Introduction, Persistence, ServerSpec, ServiceKey, ServiceSpec,
};
use uvs_core::snapshot::Timeouts;

use super::options::{Kind, Kinds, Verb};
use super::stop::{Stop, missing};

/// A command with its options.
pub(super) struct Line {
    pub(super) verb: Verb,
    pub(super) given: Kinds,
    pub(super) service: Option<ServiceKey>,
    pub(super) scheduler: String,
    pub(super) flags: u32,
    pub(super) persistence: Option<u32>,
    pub(super) mask: u32,
    pub(super) engine: Option<String>,
    pub(super) local: Vec<Addr>,
    pub(super) introduction: Introduction,
    pub(super) server: ServerSpec,
    pub(super) timeouts: Timeouts,
    pub(super) sync: SyncRequest,
}

/// The default of `-s`.
const DEFAULT_SCHEDULER: &str = "wlc";
/// The default of `--mcast-interface`.
const DEFAULT_INTERFACE: &str = "eth0";

impl Line {
    pub(super) fn new(verb: Verb) -> Self {
        Self {
            verb,
            given: Kinds::default(),
            service: None,
            scheduler: String::new(),
            flags: 0,
            persistence: None,
            mask: u32::MAX,
            engine: None,
            local: Vec::new(),
            introduction: Introduction::default(),
            server: ServerSpec::new(Endpoint::NONE, Forwarding::Dr),
            timeouts: Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 0,
            },
            sync: SyncRequest::new(SyncRole::Master, DEFAULT_INTERFACE.to_owned(), 0),
        }
    }

    /// The command `ipvsadm` without arguments is.
    pub(super) fn list() -> Self {
        Self::new(Verb::List)
    }

    /// What the line changes of the table, where it does.
    pub(super) fn change(&self) -> Result<Option<Change>, Stop> {
        Ok(Some(match self.verb {
            Verb::AddService => Change::AddService(self.service_spec()?),
            Verb::EditService => Change::EditService(self.service_spec()?),
            Verb::DeleteService => Change::DeleteService(self.key()?),
            Verb::Clear => Change::Clear,
            Verb::AddServer => Change::AddServer(self.key()?, self.server_spec()?),
            Verb::EditServer => Change::EditServer(self.key()?, self.server_spec()?),
            Verb::DeleteServer => Change::DeleteServer(self.key()?, self.server.endpoint),
            Verb::Set => Change::SetTimeouts(self.timeouts),
            Verb::List
            | Verb::Zero
            | Verb::Save
            | Verb::Restore
            | Verb::StartDaemon
            | Verb::StopDaemon => return Ok(None),
        }))
    }

    /// The service's key; commands that need one have been refused without.
    pub(super) fn key(&self) -> Result<ServiceKey, Stop> {
        self.service
            .ok_or_else(|| missing(Kind::Service, self.verb))
    }

    /// The service as `-A` or `-E` describes it.
    fn service_spec(&self) -> Result<ServiceSpec, Stop> {
        Ok(ServiceSpec {
            flags: self.flags,
            persistence: self.persistence.map(|timeout| Persistence {
                timeout,
                mask: self.mask,
            }),
            engine: self.engine.clone(),
            one_packet: self.given.has(Kind::OnePacket),
            local: self.local.clone(),
            introduction: Box::new(self.introduction.clone()),
            ..ServiceSpec::new(self.key()?, self.scheduler())
        })
    }

    /// The server as `-a` or `-e` describes it. Nobody rewrites the port on the way to a DR or TUN
    /// server, so that it is the service's.
    fn server_spec(&self) -> Result<ServerSpec, Stop> {
        let mut server = self.server;
        if let ServiceKey::Address { port, .. } = self.key()?
            && !server.forwarding.def().maps_port
        {
            server.endpoint.port = port;
        }
        Ok(server)
    }

    pub(super) fn scheduler(&self) -> &str {
        if self.scheduler.is_empty() {
            DEFAULT_SCHEDULER
        } else {
            &self.scheduler
        }
    }
}
