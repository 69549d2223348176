//! One program's connection: what it sends, and what is sent back, a request at a time. What is still to be
//! answered is kept as the program sent it, so that its answers take memory one at a time, however many it asks
//! for at once.

use uvs_control::protocol::{all, ask};
use uvs_ipvs_carried::{Part, Question};

use crate::director::Director;
use crate::errno::Errno;
use crate::message::Request;
use crate::{files, session, sockopt};

/// The place of `ip_vs_conn` in [`uvs_ipvs_carried::FILES`].
const CONNECTIONS: u32 = 1;

/// A connection's state.
#[derive(Debug)]
pub struct Conversation {
    permitted: bool,
    asked: Option<Open>,
    /// A change that it may not make, in words.
    forbidden: Option<String>,
}

/// What is being answered.
#[derive(Debug)]
enum Open {
    /// A datagram, of which so many bytes are answered.
    Datagram(Vec<u8>, usize),
    /// Connections, from this cursor on.
    Connections(u64),
}

impl Conversation {
    /// With a program that is permitted to change things, or is not: that one is refused all but the
    /// files.
    pub const fn new(permitted: bool) -> Self {
        Self {
            permitted,
            asked: None,
            forbidden: None,
        }
    }

    /// What change it has asked for and may not make, since this was last called.
    pub fn take_forbidden(&mut self) -> Option<String> {
        self.forbidden.take()
    }

    /// Takes in what the program sent. What it sent before must have been answered.
    pub fn hear(&mut self, datagram: Vec<u8>) {
        self.asked = Some(Open::Datagram(datagram, 0));
    }

    /// Answers the next that is to be answered: datagrams to be sent. `None` where the program is to speak.
    pub fn answer(&mut self, director: &mut impl Director) -> Option<Vec<Vec<u8>>> {
        match self.asked.take()? {
            Open::Connections(from) => Some(self.connections(from, director)),
            Open::Datagram(datagram, done) => {
                if let Some(question) = Question::parse(&datagram[done..]) {
                    return Some(self.answer_question(question, director));
                }
                let (request, rest) = Request::first(&datagram[done..])?;
                let answers = session::answer(&request, self.permitted, director);
                if !self.permitted {
                    self.forbidden = session::change_asked(&request);
                }
                let done = datagram.len() - rest.len();
                self.asked = Some(Open::Datagram(datagram, done));
                Some(answers)
            }
        }
    }

    fn answer_question(
        &mut self,
        question: Question<'_>,
        director: &mut impl Director,
    ) -> Vec<Vec<u8>> {
        let answer = match question {
            Question::File { place: CONNECTIONS } => {
                self.asked = Some(Open::Connections(0));
                return Part::all(files::CONNECTIONS_HEAD.as_bytes(), true);
            }
            Question::File { place } => file(place, director),
            _ if !self.permitted => {
                if let Question::Set { name, value } = question {
                    self.forbidden = sockopt::change_asked(name, value);
                }
                Err(Errno::Permission)
            }
            Question::Get { name, room, head } => sockopt::get(name, room, head, director),
            Question::Set { name, value } => {
                sockopt::set(name, value, director).map(|()| Vec::new())
            }
        };
        match answer {
            Ok(data) => Part::all(&data, false),
            Err(errno) => vec![Part::Refused(errno.number()).to_bytes()],
        }
    }

    fn connections(&mut self, from: u64, director: &mut impl Director) -> Vec<Vec<u8>> {
        match director.part(&ask::ListConnections, from) {
            Ok((some, next)) => {
                self.asked = next.map(Open::Connections);
                Part::all(files::connections(&some).as_bytes(), next.is_some())
            }
            Err(refusal) => vec![Part::Refused(Errno::from(refusal).number()).to_bytes()],
        }
    }
}

/// A file that is made at once.
fn file(place: u32, director: &mut impl Director) -> Result<Vec<u8>, Errno> {
    let text = match place {
        0 => files::ip_vs(&all(&ask::ListServices(None), director)?),
        2 => {
            let all = director.answer(ask::Traffic)?;
            files::ip_vs_stats(&all.stats, &all.rates)
        }
        _ => return Err(Errno::NoEntry),
    };
    Ok(text.into_bytes())
}
