//! The order `-L` and `-S` sort by.
//!
//! ipvsadm subtracts numbers and looks at the sign in 32 bits, so that 192.0.2.1 comes before 10.0.0.1.
//! That is no total order: the result depends on the algorithm, which is the C library's merge sort.

use std::net::IpAddr;

use uvs_control::protocol::{ServerStatus, ServiceStatus};
use uvs_core::flow::{Addr, Endpoint};
use uvs_core::service::ServiceKey;

/// Sorts services by mark, family, protocol, address and port; their servers by address and port.
pub(super) fn table(services: Vec<ServiceStatus>) -> Vec<ServiceStatus> {
    let mut services = merge_sort(services, &|a, b| {
        difference(&service_words(&a.spec.key), &service_words(&b.spec.key))
    });
    for service in &mut services {
        service.servers = servers(std::mem::take(&mut service.servers));
    }
    services
}

fn servers(servers: Vec<ServerStatus>) -> Vec<ServerStatus> {
    merge_sort(servers, &|a, b| {
        difference(
            &endpoint_words(a.spec.endpoint),
            &endpoint_words(b.spec.endpoint),
        )
    })
}

fn service_words(key: &ServiceKey) -> Vec<u32> {
    let (v4, mark, protocol) = match *key {
        ServiceKey::Address { addr, protocol, .. } => (addr.is_v4(), 0, protocol as u32),
        ServiceKey::Mark { mark, ipv6 } => (!ipv6, mark, 0),
    };
    let mut words = vec![mark, u32::from(!v4), protocol];
    words.extend(endpoint_words(key.vip()));
    words
}

fn endpoint_words(endpoint: Endpoint) -> [u32; 5] {
    let [a, b, c, d] = address_words(endpoint.addr);
    [a, b, c, d, endpoint.port.into()]
}

fn address_words(addr: Addr) -> [u32; 4] {
    match addr.into() {
        IpAddr::V4(four) => [four.into(), 0, 0, 0],
        IpAddr::V6(six) => {
            let [a, b, c, d, e, f, g, h] = six.segments().map(u32::from);
            [a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h]
        }
    }
}

/// The first difference between the words, wrapped into 32 bits.
fn difference(a: &[u32], b: &[u32]) -> i32 {
    let pairs = a.iter().zip(b);
    let mut differences = pairs.map(|(a, b)| a.wrapping_sub(*b).cast_signed());
    differences.find(|d| *d != 0).unwrap_or(0)
}

fn merge_sort<T>(mut items: Vec<T>, compare: &dyn Fn(&T, &T) -> i32) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let right = items.split_off(items.len() / 2);
    let mut left = merge_sort(items, compare).into_iter().peekable();
    let mut right = merge_sort(right, compare).into_iter().peekable();
    let mut merged = Vec::with_capacity(left.len() + right.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        merged.extend(if compare(a, b) <= 0 {
            left.next()
        } else {
            right.next()
        });
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_sort_as_expected_and_equal_ones_keep_their_order() {
        let sorted = merge_sort(vec![(3, 'a'), (1, 'b'), (2, 'c'), (1, 'd')], &|a, b| {
            a.0 - b.0
        });
        assert_eq!(sorted, [(1, 'b'), (1, 'd'), (2, 'c'), (3, 'a')]);
    }

    #[test]
    fn far_addresses_wrap_around() {
        let of = |text: &str| address_words(text.parse::<IpAddr>().expect("an address").into());
        assert!(difference(&of("10.0.0.1"), &of("10.0.0.2")) < 0);
        assert!(difference(&of("192.0.2.1"), &of("10.0.0.1")) < 0);
        assert!(difference(&of("fd00::1"), &of("::1")) < 0);
    }
}
