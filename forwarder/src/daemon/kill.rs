//! Ending connections by filter, for `uvs kill`. A request looks at a bounded part of the table, and no further than to where
//! the ends of connections may be told just now: whoever wants all of it asks again.

use std::fmt::Write as _;
use std::sync::Arc;

use uvs_control::protocol::{
    Answers, Errno, Filter, Kill, KillFilter, KillNotice, Killed, Refusal, ask,
};
use uvs_core::engine::{ConnReport, state_names};
use uvs_core::flow::Endpoint;

use super::find::fits;
use super::{Daemon, failed};
use crate::worker::KillOrder;
use crate::workers::Cursor;

/// Pages of the connection table that one request looks at: 32768 places.
const PAGES: u32 = 64;

impl Answers<ask::Kill> for Daemon {
    fn answer(&mut self, ask::Kill(kill): ask::Kill) -> Result<Killed, Refusal> {
        let words = described(&kill.filter);
        let outcome = self.kill(kill);
        match &outcome {
            Ok(killed) => self.note_killed(&words, *killed),
            Err(refusal) => self.note_refused(&format!("kill {words}"), refusal),
        }
        outcome
    }
}

impl Daemon {
    fn kill(&mut self, kill: Kill) -> Result<Killed, Refusal> {
        check(&kill)?;
        let filter = kill.filter;
        let order = Arc::new(KillOrder {
            wants: Box::new(move |c| is_meant(&filter, c)),
            tell: match kill.notice {
                KillNotice::OnRemoval => None,
                KillNotice::Tell => Some(true),
                KillNotice::Silent => Some(false),
            },
        });
        let mut all = Killed {
            next: Some(kill.from),
            ..Killed::default()
        };
        for _ in 0..PAGES {
            let Some(from) = all.next else { break };
            let part = self.workers.kill(Cursor::from(from), &order);
            let (part, rest) = part.map_err(failed)?;
            all.killed += part.killed;
            all.told += part.told;
            all.next = rest.map(u64::from);
            if part.waits {
                // More may be told in a moment, which nobody here waits for.
                break;
            }
        }
        Ok(all)
    }
}

fn check(kill: &Kill) -> Result<(), Refusal> {
    let refuse = |message: String| {
        let errno = Errno::Invalid;
        Err(Refusal { errno, message })
    };
    if kill.filter.is_empty() && !kill.all {
        let message = "filter: says nothing, which would end every connection; say which, or all: true where all are meant";
        return refuse(message.to_owned());
    }
    match &kill.filter.state {
        Some(state) if !state_names().any(|known| known == state) => {
            let mut known: Vec<&str> = state_names().collect();
            known.sort_unstable();
            known.dedup();
            refuse(format!(
                "filter.state: there is no state {state:?}; there are {}",
                known.join(", ")
            ))
        }
        _ => Ok(()),
    }
}

fn is_meant(filter: &KillFilter, c: &ConnReport) -> bool {
    filter.protocol.is_none_or(|p| c.protocol == Some(p))
        && filter.state.as_ref().is_none_or(|state| state == c.state)
        && fits(&filter.ends, c)
}

/// What is to end, in words.
fn described(filter: &KillFilter) -> String {
    let Filter {
        service,
        server,
        client,
    } = &filter.ends;
    let mut words = String::from("connections");
    // Writing to a string does not fail.
    let mut say = |text: std::fmt::Arguments<'_>| {
        let _ = words.write_fmt(text);
    };
    if let Some(client) = client {
        say(format_args!(" from {}/{}", client.addr, client.prefix));
        if client.port != 0 {
            say(format_args!(" port {}", client.port));
        }
    }
    if let Some(server) = server {
        match server.port {
            0 => say(format_args!(" to {}", server.addr)),
            port => say(format_args!(" to {}", Endpoint::new(server.addr, port))),
        }
    }
    if let Some(service) = service {
        say(format_args!(" of {service}"));
    }
    if let Some(protocol) = filter.protocol {
        say(format_args!(" of {protocol}"));
    }
    if let Some(state) = &filter.state {
        say(format_args!(" in {state}"));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use uvs_control::protocol::ClientFilter;
    use uvs_core::flow::{Addr, Protocol};

    fn refused(kill: &Kill) -> String {
        check(kill).expect_err("it is refused").message
    }

    #[test]
    fn a_filter_that_says_nothing_ends_nothing() {
        let mut kill = Kill::default();
        let said = refused(&kill);
        assert!(said.contains("all: true"), "{said}");
        kill.all = true;
        assert_eq!(check(&kill), Ok(()));
    }

    #[test]
    fn a_state_is_one_that_there_is() {
        let of = |state: &str| Kill {
            filter: KillFilter {
                state: Some(state.to_owned()),
                ..KillFilter::default()
            },
            ..Kill::default()
        };
        for state in ["ESTABLISHED", "UDP", "COOKIE"] {
            assert_eq!(check(&of(state)), Ok(()), "{state}");
        }
        let said = refused(&of("established"));
        assert!(
            said.contains("filter.state") && said.contains("ESTABLISHED"),
            "{said}"
        );
    }

    #[test]
    fn what_ends_is_said_in_words() {
        let filter = KillFilter {
            protocol: Some(Protocol::Tcp),
            state: Some("ESTABLISHED".to_owned()),
            ends: Filter {
                server: Some(Endpoint::new(Addr::v4([10, 0, 0, 2]), 0)),
                client: Some(ClientFilter {
                    addr: Addr::v4([192, 0, 2, 0]),
                    prefix: 24,
                    port: 0,
                }),
                ..Filter::default()
            },
        };
        assert_eq!(
            described(&filter),
            "connections from 192.0.2.0/24 to 10.0.0.2 of TCP in ESTABLISHED"
        );
    }
}
