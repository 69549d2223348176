//! Rates of new connections: token buckets, one a service and one a client, in memory of a fixed size.
//!
//! A bucket is kept as the time at which it will be full again (the generic cell rate algorithm of ITU-T
//! I.371): one number, nothing to refill. Those of clients are in sets of eight, found by a hash with a
//! secret key, since clients choose their addresses. Where a set is full, the bucket that is full soonest
//! makes room: one that is full already says no more than one that was never there. Only where more than
//! eight clients of a set are below their burst at once may one of them get its burst again.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use siphasher::sip::SipHasher13;

use serde::{Deserialize, Serialize};

use crate::flow::Addr;
use crate::narrow;
use crate::time::Instant;

/// Sets of clients' buckets: 65,536 buckets, a megabyte.
const SETS: usize = 1 << 13;
/// Buckets in a set: two cache lines.
const WAYS: usize = 8;

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Limit {
    ns_per_token: u64,
    /// How far ahead of the time a bucket may be.
    tolerance_ns: u64,
}

impl Limit {
    /// `None` where `per_second` is 0, which is no limit. A `burst` of 0 is one second's worth.
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let ns_per_token = 1_000_000_000u64.checked_div(u64::from(per_second))?;
        let burst = if burst == 0 { per_second } else { burst };
        Some(Self {
            ns_per_token,
            tolerance_ns: ns_per_token * u64::from(burst - 1),
        })
    }
}

impl Limit {
    /// Takes a token of a bucket that several workers share, where there is one: it is kept as [`Bucket`] is, in
    /// nanoseconds.
    pub(crate) fn takes_of(self, shared: &AtomicU64, now: Instant) -> bool {
        let take = |full_at: u64| {
            let mut bucket = Bucket {
                full_at: Instant(full_at),
            };
            bucket.takes(now, self).then_some(bucket.full_at.0)
        };
        shared.fetch_update(Relaxed, Relaxed, take).is_ok()
    }
}

/// A bucket. A new one is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Whether there is a token.
    pub(crate) const fn has_token(&self, now: Instant, limit: Limit) -> bool {
        self.full_at.0 <= now.0.saturating_add(limit.tolerance_ns)
    }

    /// Takes a token, where there is one.
    pub(crate) fn takes(&mut self, now: Instant, limit: Limit) -> bool {
        let there = self.has_token(now, limit);
        if there {
            self.take(now, limit);
        }
        there
    }

    /// Takes a token.
    pub(crate) fn take(&mut self, now: Instant, limit: Limit) {
        let from = self.full_at.max(now);
        self.full_at = Instant(from.0.saturating_add(limit.ns_per_token));
    }
}

/// A client's bucket, and whose it is; 0 = nobody's.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Entry {
    tag: u64,
    bucket: Bucket,
}

/// The buckets of clients.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Clients {
    keys: (u64, u64),
    sets: Vec<[Entry; WAYS]>,
}

impl Clients {
    /// Full buckets for everybody; `keys` must be random and secret.
    pub(crate) fn new(keys: (u64, u64)) -> Self {
        let sets = vec![[Entry::default(); WAYS]; SETS];
        Self { keys, sets }
    }

    /// The bucket of a client (an address, or what stands for its network) under the limit of this number.
    pub(crate) fn bucket(&mut self, limit: u32, client: Addr) -> &mut Bucket {
        let mut key = [0; 20];
        key[..16].copy_from_slice(&client.0);
        key[16..].copy_from_slice(&limit.to_ne_bytes());
        // The whole hash stands for the client: that two share one is as likely as to guess the key.
        let tag = SipHasher13::new_with_keys(self.keys.0, self.keys.1)
            .hash(&key)
            .max(1);
        let set = &mut self.sets[narrow::to_place(tag, SETS)];
        let known = set.iter().position(|entry| entry.tag == tag);
        let at = known.unwrap_or_else(|| {
            let soonest = (0..WAYS).min_by_key(|at| set[*at].bucket.full_at);
            let at = soonest.unwrap_or(0);
            let bucket = Bucket::default();
            set[at] = Entry { tag, bucket };
            at
        });
        &mut set[at].bucket
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: Instant = Instant::from_secs(1000);

    fn admitted(bucket: &mut Bucket, now: Instant, limit: Limit, tries: u32) -> u32 {
        let mut count = 0;
        for _ in 0..tries {
            if bucket.has_token(now, limit) {
                bucket.take(now, limit);
                count += 1;
            }
        }
        count
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let limit = Limit::new(10, 25).expect("a limit");
        let mut bucket = Bucket::default();
        assert_eq!(admitted(&mut bucket, START, limit, 100), 25);
        let later = |ms| START + Duration::from_millis(ms);
        assert_eq!(admitted(&mut bucket, later(99), limit, 100), 0);
        assert_eq!(admitted(&mut bucket, later(100), limit, 100), 1);
        assert_eq!(admitted(&mut bucket, later(1100), limit, 100), 10);
        assert_eq!(admitted(&mut bucket, later(1_000_000), limit, 100), 25);
    }

    #[test]
    fn without_a_burst_it_is_one_seconds_worth() {
        assert_eq!(Limit::new(0, 7), None);
        let limit = Limit::new(3, 0).expect("a limit");
        assert_eq!(admitted(&mut Bucket::default(), START, limit, 9), 3);
    }

    fn client(n: u32) -> Addr {
        Addr::v4(n.to_be_bytes())
    }

    #[test]
    fn clients_and_limits_have_buckets_of_their_own() {
        let limit = Limit::new(1, 2).expect("a limit");
        let mut clients = Clients::new((1, 2));
        for (number, who) in [(1, 7), (1, 8), (2, 7)] {
            let bucket = clients.bucket(number, client(who));
            assert_eq!(admitted(bucket, START, limit, 9), 2);
        }
        assert!(!clients.bucket(1, client(7)).has_token(START, limit));
    }

    #[test]
    fn a_million_addresses_take_no_more_memory_and_free_nobody_from_a_limit() {
        let limit = Limit::new(1, 100).expect("a limit");
        let mut clients = Clients::new((1, 2));
        assert_eq!(
            admitted(clients.bucket(1, client(7)), START, limit, 200),
            100
        );
        for n in 1000..1_001_000 {
            clients.bucket(1, client(n)).take(START, limit);
        }
        assert_eq!(clients.sets.len() * WAYS, 65_536);
        let bucket = clients.bucket(1, client(7));
        assert!(
            !bucket.has_token(START, limit),
            "it was the emptiest of its set"
        );
    }
}
