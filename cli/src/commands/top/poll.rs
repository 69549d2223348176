//! Asking the daemon, on a thread of its own so that a slow answer holds up no key: a sample every interval,
//! and the latest connections of the level that is open.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use uvs_control::client::{Asking, CallError, Daemon};
use uvs_control::protocol::{Filter, Find, Sample, ask, keep_latest};
use uvs_core::engine::ConnReport;

/// Answers that may wait for the screen.
const WAITING: usize = 4;

/// What came.
pub(super) enum News {
    Sample(Box<Sample>),
    Found(Filter, Vec<ConnReport>, u64, f64),
    /// The daemon did not answer, or not what was asked.
    Trouble(String),
}

/// The thread's two ends.
pub(super) struct Source {
    /// Which connections to ask for from now on.
    pub(super) wanted: Sender<Option<Filter>>,
    pub(super) news: Receiver<News>,
}

/// Starts to ask; `most` connections are listed at a time.
pub(super) fn start(
    daemon: impl Daemon + Send + 'static,
    interval: Duration,
    most: u32,
) -> std::io::Result<Source> {
    let (wanted, wants) = channel();
    let (to, news) = sync_channel(WAITING);
    let mut poller = Poller {
        daemon,
        most,
        started: Instant::now(),
        to,
    };
    thread::Builder::new()
        .name("top-poll".to_owned())
        .spawn(move || poller.run(&wants, interval))?;
    Ok(Source { wanted, news })
}

/// One sample.
pub(super) fn sample(daemon: &mut impl Daemon) -> Result<Sample, CallError> {
    daemon.ask(ask::Sample)
}

/// Of the connections that fit, the `most` with the latest packets, and how many fit. The daemon answers in
/// parts, each with its own latest, so that a million connections are looked at and a few are sent.
fn latest(
    daemon: &mut impl Daemon,
    filter: &Filter,
    most: u32,
) -> Result<(Vec<ConnReport>, u64), CallError> {
    let (mut list, mut matched, mut next) = (Vec::new(), 0, Some(0));
    while let Some(from) = next {
        let find = Find {
            filter: filter.clone(),
            from,
            latest: Some(most),
        };
        let found = daemon.ask(ask::FindConnections(find))?;
        list.extend(found.connections);
        keep_latest(&mut list, most);
        matched += u64::from(found.matched);
        next = found.next;
    }
    Ok((list, matched))
}

struct Poller<D> {
    daemon: D,
    most: u32,
    started: Instant,
    to: SyncSender<News>,
}

impl<D: Daemon> Poller<D> {
    /// Until the screen has gone.
    fn run(&mut self, wants: &Receiver<Option<Filter>>, interval: Duration) {
        let mut wanted = None;
        let mut due = Instant::now() + interval;
        loop {
            let sent = match wants.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(filter) => {
                    wanted = filter;
                    self.look(wanted.as_ref())
                }
                Err(RecvTimeoutError::Timeout) => {
                    // What was missed, because the daemon was slow, is not made up for.
                    due = (due + interval).max(Instant::now());
                    let sample = sample(&mut self.daemon).map(Box::new).map(News::Sample);
                    self.tell(sample) && self.look(wanted.as_ref())
                }
                Err(RecvTimeoutError::Disconnected) => false,
            };
            if !sent {
                return;
            }
        }
    }

    fn look(&mut self, wanted: Option<&Filter>) -> bool {
        let Some(filter) = wanted else { return true };
        let found = latest(&mut self.daemon, filter, self.most);
        let at = self.started.elapsed().as_secs_f64();
        self.tell(found.map(|(list, matched)| News::Found(filter.clone(), list, matched, at)))
    }

    fn tell(&self, news: Result<News, CallError>) -> bool {
        let news = news.unwrap_or_else(|error| News::Trouble(error.to_string()));
        self.to.send(news).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{KEY, connection, sample as sampled};
    use super::*;
    use uvs_control::client::Take;
    use uvs_control::protocol::{Ask, Command, Found, Question};

    /// Answers as a daemon whose table has three parts.
    struct Table;

    impl Daemon for Table {
        fn call(&mut self, command: Command, take: &mut Take<'_>) -> Result<(), CallError> {
            let answer = match command {
                Command::Ask(Ask::FindConnections(find)) => {
                    let part = u16::try_from(find.from).unwrap();
                    ask::FindConnections::encode(Found {
                        connections: vec![connection(part, 10 * part), connection(100 + part, 0)],
                        matched: 40,
                        next: (part < 2).then_some(find.from + 1),
                    })
                }
                Command::Ask(Ask::Sample) => ask::Sample::encode(sampled(0, 0)),
                other => unreachable!("uvs top does not send {other:?}"),
            };
            take(&answer.expect("JSON")).expect("an answer to the question");
            Ok(())
        }
    }

    #[test]
    fn the_latest_of_all_parts_are_kept_and_all_counted() {
        let (list, matched) = latest(&mut Table, &Filter::default(), 2).expect("answers");
        let ports: Vec<u16> = list.iter().map(|c| c.client.port).collect();
        assert_eq!((ports, matched), (vec![2, 1], 120));
    }

    #[test]
    fn what_is_wanted_is_asked_at_once_and_samples_keep_coming() {
        let source = start(Table, Duration::from_millis(20), 3).expect("a thread");
        let filter = Filter {
            service: Some(KEY),
            ..Filter::default()
        };
        source
            .wanted
            .send(Some(filter.clone()))
            .expect("it listens");
        let (mut samples, mut lists) = (0, 0);
        while samples < 2 || lists < 2 {
            match source.news.recv().expect("news") {
                News::Sample(_) => samples += 1,
                News::Found(of, list, ..) => {
                    assert_eq!((of, list.len()), (filter.clone(), 3));
                    lists += 1;
                }
                News::Trouble(what) => panic!("{what}"),
            }
        }
    }
}
