//! Counters and rates as attributes, in 32 and in 64 bits (`ip_vs_genl_fill_stats`, `ip_vs_genl_fill_stats64`).

use uvs_core::counters::Stats;

use crate::attribute::Attributes;
use crate::structure::Writer;

/// IPVS_STATS_ATTR_CONNS, the first of the five totals; CPS, the first of the five rates, follows them.
const FIRST: u16 = 1;

/// What is counted, in the order of its attributes.
const fn five(of: &Stats) -> [u64; 5] {
    [
        of.connections,
        of.in_packets,
        of.out_packets,
        of.in_bytes,
        of.out_bytes,
    ]
}

/// IPVS_*_ATTR_STATS: connections and packets are cut to 32 bits as the kernel cuts them, bytes are whole; rates
/// have 32 bits.
pub(crate) fn in_32_bits(totals: &Stats, rates: &Stats) -> Attributes {
    let [connections, in_packets, out_packets, in_bytes, out_bytes] = five(totals);
    let counted = [connections, in_packets, out_packets];
    let mut kind = FIRST..;
    let mut next = || kind.next().unwrap_or_default();
    let made = counted.iter().fold(Attributes::new(), |made, total| {
        made.u32(next(), low_half(*total))
    });
    let made = made.u64(next(), in_bytes).u64(next(), out_bytes);
    five(rates)
        .iter()
        .fold(made, |made, rate| made.u32(next(), low_half(*rate)))
}

/// IPVS_*_ATTR_STATS64.
pub(crate) fn in_64_bits(totals: &Stats, rates: &Stats) -> Attributes {
    let all = five(totals).into_iter().chain(five(rates));
    (FIRST..)
        .zip(all)
        .fold(Attributes::new(), |made, (kind, value)| {
            made.u64(kind, value)
        })
}

/// `struct ip_vs_stats_user`.
pub(crate) fn as_structure(to: Writer, totals: &Stats, rates: &Stats) -> Writer {
    let [connections, in_packets, out_packets, in_bytes, out_bytes] = five(totals);
    let to = to
        .u32(low_half(connections))
        .u32(low_half(in_packets))
        .u32(low_half(out_packets))
        .zeros(4)
        .u64(in_bytes)
        .u64(out_bytes);
    let rates = five(rates);
    rates
        .iter()
        .fold(to, |to, rate| to.u32(low_half(*rate)))
        .zeros(4)
}

/// The low 32 bits, as a counter of the kernel's that has no more.
#[allow(clippy::cast_possible_truncation)]
pub(crate) const fn low_half(value: u64) -> u32 {
    value as u32
}
