//! Rates of samples whose counters are known.

use super::super::testing::{KEY, SERVER, sample};
use super::*;

#[test]
fn a_rate_is_the_difference_over_the_daemons_own_time() {
    let mut meter = Meter::default();
    let first = meter.read(sample(1_000, 10));
    assert_eq!(first.services[0].rates, None);
    assert_eq!((first.total, first.frames), (None, None));
    // Half a second later there are 20 more: packets are ten times, bytes a hundred times as many.
    let second = meter.read(sample(1_500, 30));
    let rates = second.services[0].rates.expect("two samples");
    let expected = Rates {
        connections: 40.0,
        in_packets: 400.0,
        out_packets: 400.0,
        in_bits: 32_000.0,
        out_bits: 32_000.0,
    };
    assert_eq!(rates, expected);
    assert_eq!(second.total, Some(expected));
    let mut servers = second.servers(&second.services[0]);
    assert_eq!(servers.next().and_then(|s| s.rates), Some(expected));
    assert_eq!(second.trend(KEY, None), [64_000]);
    let frames = second.frames.clone().expect("two samples");
    assert_eq!((frames.received, frames.dropped), (800.0, 40.0));
    assert!((frames.busy[0] - 0.5).abs() < 1e-9, "{frames:?}");
}

#[test]
fn another_daemon_and_a_counter_that_went_back_have_no_rate() {
    let mut meter = Meter::default();
    meter.read(sample(1_000, 10));
    meter.read(sample(2_000, 20));
    let mut restarted = sample(3_000, 5);
    restarted.pid += 1;
    let reading = meter.read(restarted);
    assert!(reading.services[0].rates.is_none());
    assert!(reading.trend(KEY, None).is_empty());
    let mut again = sample(4_000, 1);
    again.pid += 1;
    let reading = meter.read(again.clone());
    assert!(reading.services[0].rates.is_none());
    assert!(meter.read(again).frames.is_none(), "no time has passed");
}

#[test]
fn a_new_server_has_no_rate_and_the_others_have() {
    let mut meter = Meter::default();
    let mut without = sample(1_000, 10);
    let added = without.services[0].servers.pop().expect("two servers");
    meter.read(without);
    let reading = meter.read(sample(2_000, 20));
    let service = reading.service(&KEY).expect("the service");
    let known: Vec<_> = reading
        .servers(service)
        .map(|s| (s.status.spec.endpoint, s.rates.is_some()))
        .collect();
    assert_eq!(known, [(SERVER, true), (added.spec.endpoint, false)]);
}

#[test]
fn a_trend_is_bounded() {
    let mut meter = Meter::default();
    let samples = 0..2 * TREND as u64;
    let last = samples
        .map(|i| meter.read(sample(1_000 * i, 10 * i)))
        .last();
    let last = last.expect("samples");
    let trend = last.trend(KEY, None);
    assert_eq!((trend.len(), trend.iter().max()), (TREND, Some(&16_000)));
}
