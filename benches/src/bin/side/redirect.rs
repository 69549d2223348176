//! The limit: every IPv4 frame that comes in by one of the director's interfaces leaves by the other one as it is,
//! from the earliest place at which the kernel can send it on (tc ingress). Nothing is looked up and nothing written.
//!
//! As no byte changes, client and server take each other for neighbours: each has the other's MAC address where the
//! director's would be. That needs a director with two interfaces.

use anyhow::Result;
use uvs_lab::Lab;

/// The director's interfaces: the client's side, and the servers'.
const OUTSIDE: &str = "eth0";
const INSIDE: &str = "eth1";

/// The redirection at work.
pub(crate) struct Redirect<'lab> {
    lab: &'lab Lab,
}

impl<'lab> Redirect<'lab> {
    /// Starts it.
    pub(crate) fn start(lab: &'lab Lab) -> Result<Self> {
        let redirect = Self { lab };
        let server = &lab.servers[0].host;
        redirect.neighbours("replace", &[&server.mac("eth0")?, &lab.client.mac("eth0")?])?;
        for (from, to) in [(OUTSIDE, INSIDE), (INSIDE, OUTSIDE)] {
            lab.director
                .run(&format!("tc qdisc add dev {from} clsact"))?;
            lab.director.run(&format!(
                "tc filter add dev {from} ingress protocol ip u32 match u32 0 0 action mirred egress redirect dev {to}"
            ))?;
        }
        Ok(redirect)
    }

    /// Ends it; the director routes again.
    pub(crate) fn stop(self) -> Result<()> {
        for interface in [OUTSIDE, INSIDE] {
            self.lab
                .director
                .run(&format!("tc qdisc del dev {interface} clsact"))?;
        }
        let director = &self.lab.director;
        self.neighbours(
            "replace",
            &[&director.mac(OUTSIDE)?, &director.mac(INSIDE)?],
        )
    }

    /// What the client and the server take for their gateways' MAC addresses.
    fn neighbours(&self, verb: &str, [for_client, for_server]: &[&str; 2]) -> Result<()> {
        let (plan, server) = (&self.lab.plan, &self.lab.servers[0].host);
        let set = |gateway, mac| format!("neigh {verb} {gateway} lladdr {mac} dev eth0");
        self.lab.client.ip(&set(plan.director, *for_client))?;
        if let Some(gateway) = plan.gateway {
            server.ip(&set(gateway, *for_server))?;
        }
        Ok(())
    }
}
