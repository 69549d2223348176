//! `uvs run` on a director that is also something else: the site's firewall and its servers' gateway, a
//! client of its own services, their server of last resort. Needs root, or `make test`.

#[allow(dead_code, reason = "shared with the other tests")]
mod netns;

#[path = "beside/client.rs"]
mod client;
#[path = "beside/gateway.rs"]
mod gateway;
#[path = "beside/server.rs"]
mod server;
#[path = "beside/site.rs"]
mod site;
