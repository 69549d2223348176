//! What `uvs top` is about at the moment: the level, its order, the chosen line, the keys. It knows no
//! terminal and no daemon: keys and answers come in, [`App::wanted`] says what to ask.

use ratatui::crossterm::event::KeyCode;
use uvs_control::protocol::{Filter, Sample};
use uvs_core::engine::ConnReport;
use uvs_core::flow::Endpoint;
use uvs_core::service::ServiceKey;

use super::grid::{self, Before, Id, Item};
use super::model::{Meter, Reading};
use crate::commands::columns::{connections, heads, servers, services};
use crate::commands::output::Column;

/// What a level lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All services.
    Services,
    /// A service's servers.
    Servers(ServiceKey),
    /// A service's connections, or those of one of its servers.
    Connections(ServiceKey, Option<Endpoint>),
}

/// A level that is open: order, and the line that is chosen.
#[derive(Clone, Debug)]
pub(super) struct Level {
    pub(super) place: Place,
    /// The column, and whether the largest comes first.
    pub(super) sort: (usize, bool),
    chosen: Option<Id>,
    /// Where it was last, for when it goes.
    index: usize,
}

/// Connections as they were listed last.
#[derive(Default)]
pub(super) struct Listed {
    filter: Filter,
    list: Vec<ConnReport>,
    /// How many there are.
    pub(super) matched: u64,
    before: Before,
    taken: f64,
}

/// The whole state.
pub(super) struct App {
    meter: Meter,
    reading: Reading,
    frozen: Option<Reading>,
    pub(super) listed: Listed,
    levels: Vec<Level>,
    pub(super) help: bool,
    /// Why the numbers are not new.
    pub(super) trouble: Option<String>,
    /// Lines that the screen has for the level, as of the last drawing.
    pub(super) page: usize,
}

/// What a key asks of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Stay,
    Quit,
}

impl App {
    /// Starts with the services.
    pub(super) fn new(sample: Sample) -> Self {
        let mut meter = Meter::default();
        Self {
            reading: meter.read(sample),
            meter,
            frozen: None,
            listed: Listed::default(),
            levels: vec![Level::new(Place::Services)],
            help: false,
            trouble: None,
            page: 1,
        }
    }

    /// A new sample came.
    pub(super) fn sampled(&mut self, sample: Sample) {
        self.trouble = None;
        self.reading = self.meter.read(sample);
    }

    /// Connections came, `at` these seconds of any clock; those of another level are too late.
    pub(super) fn found(&mut self, filter: Filter, list: Vec<ConnReport>, matched: u64, at: f64) {
        if self.wanted().as_ref() != Some(&filter) {
            return;
        }
        let same = self.listed.filter == filter;
        if self.frozen.is_some() && same {
            return;
        }
        let old = std::mem::take(&mut self.listed);
        let known = old.list.iter().filter(|_| same);
        let sequence = known.filter_map(|c| Some((grid::connection_id(c), c.sequence?)));
        self.listed = Listed {
            before: Before {
                sequence: sequence.collect(),
                seconds: at - old.taken,
            },
            taken: at,
            filter,
            list,
            matched,
        };
    }

    /// The connections to ask for besides samples.
    pub(super) fn wanted(&self) -> Option<Filter> {
        match self.level().place {
            Place::Services | Place::Servers(_) => None,
            Place::Connections(service, server) => Some(Filter {
                service: Some(service),
                server,
                client: None,
            }),
        }
    }

    /// The reading that is shown.
    pub(super) fn reading(&self) -> &Reading {
        self.frozen.as_ref().unwrap_or(&self.reading)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.frozen.is_some()
    }

    pub(super) fn level(&self) -> &Level {
        self.levels.last().expect("the services are never left")
    }

    fn level_mut(&mut self) -> &mut Level {
        self.levels.last_mut().expect("the services are never left")
    }

    pub(super) fn columns(&self) -> Vec<Column> {
        match self.level().place {
            Place::Services => heads(services::TOP),
            Place::Servers(_) => heads(servers::TOP),
            Place::Connections(..) => heads(connections::TOP),
        }
    }

    /// The level's lines in their order.
    pub(super) fn items(&self) -> Vec<Item> {
        let level = self.level();
        let mut lines = match level.place {
            Place::Services => grid::services(self.reading()),
            Place::Servers(key) => {
                let service = self.reading().service(&key);
                service.map_or_else(Vec::new, |s| grid::servers(self.reading(), s))
            }
            Place::Connections(..) if self.wanted().as_ref() == Some(&self.listed.filter) => {
                grid::connections(&self.listed.list, &self.listed.before)
            }
            Place::Connections(..) => Vec::new(),
        };
        grid::sort(&mut lines, level.sort.0, level.sort.1);
        lines
    }

    /// Which of these lines is chosen.
    pub(super) fn chosen(&self, lines: &[Item]) -> Option<usize> {
        let level = self.level();
        let found = lines
            .iter()
            .position(|line| Some(&line.id) == level.chosen.as_ref());
        found.or_else(|| lines.len().checked_sub(1).map(|last| level.index.min(last)))
    }

    /// A key was pressed.
    pub(super) fn press(&mut self, key: KeyCode) -> Outcome {
        if self.help {
            self.help = false;
            return Outcome::Stay;
        }
        let page = isize::try_from(self.page.max(1)).unwrap_or(isize::MAX);
        match key {
            KeyCode::Char('q') => return Outcome::Quit,
            KeyCode::Esc | KeyCode::Left | KeyCode::Backspace => return self.back(key),
            KeyCode::Enter | KeyCode::Right => self.open(),
            KeyCode::Char('c') => self.open_connections(),
            KeyCode::Up | KeyCode::Char('k') => self.step(-1),
            KeyCode::Down | KeyCode::Char('j') => self.step(1),
            KeyCode::PageUp => self.step(-page),
            KeyCode::PageDown => self.step(page),
            KeyCode::Home | KeyCode::Char('g') => self.step(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.step(isize::MAX),
            KeyCode::Char('<' | ',') => self.sort_by(-1),
            KeyCode::Char('>' | '.') => self.sort_by(1),
            KeyCode::Char('r') => self.level_mut().sort.1 ^= true,
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            _ => {}
        }
        Outcome::Stay
    }

    /// Esc at the services leaves the program, as it leaves any other level.
    fn back(&mut self, key: KeyCode) -> Outcome {
        if self.levels.len() > 1 {
            self.levels.pop();
            return Outcome::Stay;
        }
        match key {
            KeyCode::Esc => Outcome::Quit,
            _ => Outcome::Stay,
        }
    }

    fn open(&mut self) {
        let place = match (self.level().place, self.chosen_id()) {
            (Place::Services, Some(Id::Service(key))) => Place::Servers(key),
            (Place::Servers(key), Some(Id::Server(server))) => {
                Place::Connections(key, Some(server))
            }
            _ => return,
        };
        self.levels.push(Level::new(place));
    }

    /// All connections of a service, by whichever server.
    fn open_connections(&mut self) {
        let place = match (self.level().place, self.chosen_id()) {
            (Place::Services, Some(Id::Service(key))) | (Place::Servers(key), _) => {
                Place::Connections(key, None)
            }
            _ => return,
        };
        self.levels.push(Level::new(place));
    }

    fn chosen_id(&self) -> Option<Id> {
        let lines = self.items();
        self.chosen(&lines).map(|i| lines[i].id.clone())
    }

    fn step(&mut self, by: isize) {
        let lines = self.items();
        let Some(last) = lines.len().checked_sub(1) else {
            return;
        };
        let at = self.chosen(&lines).unwrap_or(0);
        let to = at.saturating_add_signed(by).min(last);
        let level = self.level_mut();
        (level.index, level.chosen) = (to, Some(lines[to].id.clone()));
    }

    fn sort_by(&mut self, by: isize) {
        let columns = self.columns();
        let level = self.level_mut();
        // From the last on to the first, and back.
        let column = (level.sort.0 + columns.len()).saturating_add_signed(by) % columns.len();
        // Names rise, numbers fall: the interesting end comes first.
        level.sort = (column, columns[column].is_numeric());
    }

    fn pause(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(self.reading.clone()),
        };
    }
}

impl Level {
    fn new(place: Place) -> Self {
        let sort = match place {
            Place::Services | Place::Servers(_) => (grid::CONN_RATE, true),
            Place::Connections(..) => (grid::IDLE, false),
        };
        Self {
            place,
            sort,
            chosen: None,
            index: 0,
        }
    }
}

#[cfg(test)]
mod tests;
