//! How a service introduces its clients: `client_address`, `proxy_authority`, `toa_kind` and `timestamps`.

use std::ops::RangeInclusive;

use uvs_core::service::{ClientAddress, Introduction, ServiceSpec, TOA_KIND, Timestamps};

use super::fields::{Fields, Value};
use super::modes;

/// Kinds of TCP's options.
const KIND: RangeInclusive<i64> = 0..=u8::MAX as i64;

/// Reads a service's four keys; without them packets say of their client what they said when they came. `spec` has its
/// key and its servers.
pub(super) fn read(fields: &Fields<'_>, spec: &ServiceSpec) -> Introduction {
    let address = fields.get("client_address");
    let timestamps = fields.get("timestamps");
    let authority = fields.get("proxy_authority");
    let read = Introduction {
        client_address: chosen(address.as_ref(), ClientAddress::WORDS),
        authority: authority
            .and_then(|value| value.string().map(str::to_owned))
            .unwrap_or_default(),
        toa_kind: fields.integer("toa_kind", KIND).unwrap_or(TOA_KIND),
        timestamps: chosen(timestamps.as_ref(), Timestamps::WORDS),
    };
    if let Err(unfit) = read.check(&spec.key) {
        if let Some(value) = fields.get(unfit.key) {
            value.refuse(unfit.what, unfit.help);
        }
        return Introduction::default();
    }
    let deaf = spec.servers.iter().find(|s| !read.suits(s.forwarding));
    let at = match read.client_address {
        ClientAddress::Packet => timestamps,
        ClientAddress::ProxyV1 | ClientAddress::ProxyV2 | ClientAddress::Toa => address,
    };
    if let Some((server, value)) = deaf.zip(at) {
        let takers = modes::one_method_that(|method| read.suits(method));
        value.refuse(
            format!(
                "the server {} answers its clients past the director, which has to change both directions",
                server.endpoint
            ),
            format!("remove it, or set mode = {takers}"),
        );
    }
    read
}

fn chosen<T: Copy + Default>(value: Option<&Value<'_>>, words: &[(&'static str, T)]) -> T {
    value
        .and_then(|value| value.choice(words))
        .unwrap_or_default()
}
