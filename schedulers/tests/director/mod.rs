//! A director in virtual time with one TCP service of several servers, and clients that come one by one.

use std::sync::Arc;
use std::time::Duration;

use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::numbers::ServerNumbers;
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec};
use uvs_core::testing::bed::{Bed, CLIENT, SERVERS_MAC, VIP};
use uvs_core::testing::packets::{TestFrame, tcp};
use uvs_core::wire::tcp::flag::{ACK, RST, SYN};

use crate::common;

/// The director.
pub(crate) struct Director {
    pub(crate) bed: Bed,
    clients: u32,
}

/// The endpoint of server number `n`.
pub(crate) const fn server(n: u8) -> Endpoint {
    Endpoint::new(Addr::v4([10, 0, 2, 10 + n]), 80)
}

/// Connections that it may have.
const LIMIT: u32 = 100_000;

impl Director {
    /// A director whose service has no server yet.
    pub(crate) fn new(scheduler: &str, slow_start: u32) -> Self {
        let mut bed = common::bed(LIMIT);
        bed.change_fib(|fib| {
            for n in 0..200 {
                fib.set_neighbour(3, server(n).addr, [2, 0, 0, 0, 2, n]);
            }
        });
        let mut service = ServiceSpec::new(ServiceKey::address(Protocol::Tcp, VIP), scheduler);
        service.slow_start = slow_start;
        bed.snapshot.services = vec![Arc::new(service)].into();
        bed.apply();
        Self { bed, clients: 0 }
    }

    /// Changes the service.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut ServiceSpec)) {
        change(Arc::make_mut(&mut self.bed.snapshot.services[0]));
        self.bed.apply();
        self.pass(Duration::ZERO);
    }

    /// Adds servers of weight 1.
    pub(crate) fn add(&mut self, numbers: impl IntoIterator<Item = u8>, forwarding: Forwarding) {
        for n in numbers {
            let spec = ServerSpec::new(server(n), forwarding);
            self.change(|service| service.servers.insert(0, spec));
        }
    }

    /// Another process's engine goes on, as in an upgrade.
    pub(crate) fn hand_down(&mut self) {
        common::hand_down(&mut self.bed, LIMIT);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.bed.jump(time);
    }

    /// The next client sends its SYN: who it is, and the number of the server it gets.
    pub(crate) fn connect(&mut self) -> (Endpoint, Option<u8>) {
        self.clients += 1;
        let [.., a, b] = (self.clients / 20_000).to_be_bytes();
        let port = CLIENT.port + (self.clients % 20_000) as u16;
        let client = Endpoint::new(Addr::v4([192, 0, a, b]), port);
        (client, self.syn(client))
    }

    /// A client's SYN, be it the first or another.
    pub(crate) fn syn(&mut self, client: Endpoint) -> Option<u8> {
        self.client_sends(client, SYN)
    }

    /// A server's SYN-ACK.
    pub(crate) fn syn_ack(&mut self, n: u8, client: Endpoint) {
        let packet = tcp(server(n), client, SYN | ACK).to_mac(SERVERS_MAC);
        let sent = self.bed.from_server(TestFrame::finished(&packet.frame()));
        assert_eq!(sent.len(), 1, "forwarded");
    }

    /// A client's reset, before which it was connected: a connection that is active no more.
    pub(crate) fn close(&mut self, client: Endpoint) {
        self.client_sends(client, ACK);
        self.client_sends(client, RST);
    }

    /// A connection that opens and closes at once; its server's number.
    pub(crate) fn visit(&mut self) -> u8 {
        let (client, server) = self.connect();
        self.close(client);
        server.expect("a server")
    }

    /// What is counted of a server.
    pub(crate) fn numbers(&self, n: u8) -> ServerNumbers {
        let report = self.bed.engine.report(self.bed.now);
        let mut servers = report.services[0].servers.iter();
        let found = servers.find(|s| s.endpoint == server(n));
        found.expect("reported").numbers
    }

    fn client_sends(&mut self, client: Endpoint, flags: u8) -> Option<u8> {
        let frame = tcp(client, VIP, flags).frame();
        let sent = self.bed.from_client(TestFrame::finished(&frame));
        let to = sent.iter().find(|s| s.bytes[..5] == [2, 0, 0, 0, 2]);
        to.map(|s| s.bytes[5])
    }
}
