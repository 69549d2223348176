//! Whatever makes the daemon log the same again and again must not fill the disk: each place in the code may log a
//! burst of lines and then one a second. What is left out is counted, and told with its first line.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines at once from one place: what a change of many servers says of each.
const BURST: u32 = 64;
/// One line more is allowed every so often.
const REFILL: Duration = Duration::from_secs(1);

/// What each place in the code may still log. Places are compiled in, so there are never more than those.
#[derive(Debug, Default)]
pub(super) struct Limiter(Mutex<HashMap<Identifier, Bucket>>);

#[derive(Debug)]
struct Bucket {
    /// Lines it may log at once.
    tokens: u32,
    /// When it got the last of them.
    filled: Instant,
    suppressed: u64,
    /// The first line that was left out.
    like: Option<String>,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled: now,
            suppressed: 0,
            like: None,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let periods = now.saturating_duration_since(self.filled).as_secs() / REFILL.as_secs();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.tokens = self.tokens.saturating_add(periods).min(BURST);
        self.filled += REFILL * periods;
        if self.tokens == 0 {
            self.suppressed += 1;
            return false;
        }
        self.tokens -= 1;
        true
    }
}

impl Limiter {
    fn admits(&self, event: &Event<'_>, now: Instant) -> bool {
        let place = event.metadata().callsite();
        let mut buckets = self.lock();
        let bucket = buckets.entry(place).or_insert_with(|| Bucket::new(now));
        if bucket.take(now) {
            return true;
        }
        bucket.like.get_or_insert_with(|| line(event));
        false
    }

    /// What was left out since the last call: its first line, and how many.
    pub(super) fn take_suppressed(&self) -> Vec<(String, u64)> {
        let mut buckets = self.lock();
        let taken = buckets.values_mut().filter_map(|bucket| {
            let like = bucket.like.take()?;
            Some((like, std::mem::take(&mut bucket.suppressed)))
        });
        taken.collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Bucket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limiter among the layers. Who asks for debug or trace gets all of it.
pub(super) struct Limit(pub(super) Arc<Limiter>);

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        *event.metadata().level() > Level::INFO || self.0.admits(event, Instant::now())
    }
}

/// An event's message and fields, as the text format has them.
pub(super) fn line(event: &Event<'_>) -> String {
    let mut line = Line::default();
    event.record(&mut line);
    line.message + &line.fields
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_bucket_gives_a_burst_and_then_one_a_second() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut admitted = |ms: u64, tries: u32| {
            let now = start + Duration::from_millis(ms);
            (0..tries).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(admitted(0, 1000), BURST as usize);
        assert_eq!(admitted(999, 10), 0);
        assert_eq!(admitted(1500, 10), 1);
        assert_eq!(admitted(2000, 10), 1, "halves of seconds are not lost");
        assert_eq!(admitted(1_000_000, 1000), BURST as usize);
    }

    #[test]
    fn one_place_is_limited_and_another_is_not() {
        let limiter = Arc::new(Limiter::default());
        let counted = Arc::new(Mutex::new(0));
        let subscriber = tracing_subscriber::registry()
            .with(Counting(Arc::clone(&counted)))
            .with(Limit(Arc::clone(&limiter)));
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..1000 {
                tracing::info!(n, "moved");
            }
            tracing::warn!("once");
            for _ in 0..1000 {
                tracing::debug!("asked for");
            }
        });
        // A second of the test's own may have passed meanwhile.
        let told = limiter.take_suppressed();
        let [(like, left_out)] = &told[..] else {
            panic!("one place: {told:?}");
        };
        assert!(like.starts_with("moved n="), "{like}");
        let seen = *counted.lock().expect("a count");
        assert_eq!(seen + left_out, 2001);
        assert!(*left_out > 800, "{left_out}");
        assert_eq!(limiter.take_suppressed(), []);
    }

    struct Counting(Arc<Mutex<u64>>);

    impl<S: Subscriber> Layer<S> for Counting {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock().expect("a count") += 1;
        }
    }
}
