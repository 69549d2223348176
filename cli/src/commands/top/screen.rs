//! The terminal: taken, drawn on, and restored however this ends. One loop over keys, answers, signals.

use std::io::{self, BufWriter, Stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::widgets::TableState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::app::{App, Outcome};
use super::draw::draw;
use super::poll::{News, Source};

/// How long a key, an answer or a signal may wait.
const TICK: Duration = Duration::from_millis(50);

/// How it ended.
pub(super) enum Ended {
    /// By a key.
    Quit,
    /// By this signal.
    Signal(u8),
}

/// Runs until a key or a signal ends it.
///
/// # Errors
/// The terminal's.
pub(super) fn run(mut app: App, source: &Source, interval: &str) -> io::Result<Ended> {
    let signalled = Arc::new(AtomicUsize::new(0));
    for signal in [SIGTERM, SIGHUP, SIGINT] {
        let number = signal.unsigned_abs() as usize;
        signal_hook::flag::register_usize(signal, Arc::clone(&signalled), number)?;
    }
    let mut screen = Screen::take()?;
    let mut table = TableState::new();
    let (mut stale, mut wanted) = (true, None);
    loop {
        if let Ok(signal @ 1..) = u8::try_from(signalled.load(Ordering::Relaxed)) {
            return Ok(Ended::Signal(signal));
        }
        stale |= hear(&mut app, source)?;
        if stale {
            let mut page = 0;
            screen
                .0
                .draw(|frame| page = draw(frame, &app, interval, &mut table))?;
            app.page = page;
        }
        stale = false;
        let mut wait = TICK;
        while event::poll(wait)? {
            stale = true;
            wait = Duration::ZERO;
            if let Some(key) = pressed(&event::read()?)
                && app.press(key) == Outcome::Quit
            {
                return Ok(Ended::Quit);
            }
        }
        if app.wanted() != wanted {
            wanted = app.wanted();
            table = TableState::new();
            source
                .wanted
                .send(wanted.clone())
                .map_err(io::Error::other)?;
        }
    }
}

/// Takes in what came; whether anything did.
fn hear(app: &mut App, source: &Source) -> io::Result<bool> {
    let mut any = false;
    loop {
        match source.news.try_recv() {
            Ok(News::Sample(sample)) => app.sampled(*sample),
            Ok(News::Found(filter, list, matched, at)) => app.found(filter, list, matched, at),
            Ok(News::Trouble(what)) => app.trouble = Some(what),
            Err(TryRecvError::Empty) => return Ok(any),
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other(
                    "the thread that asks the daemon has ended",
                ));
            }
        }
        any = true;
    }
}

/// The key of an event; Ctrl-C is `q`, since a raw terminal makes no signal of it.
fn pressed(event: &Event) -> Option<KeyCode> {
    let Event::Key(KeyEvent {
        code,
        modifiers,
        kind: KeyEventKind::Press | KeyEventKind::Repeat,
        ..
    }) = event
    else {
        return None;
    };
    match code {
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => {
            Some(KeyCode::Char('q'))
        }
        _ if modifiers.contains(KeyModifiers::CONTROL) => None,
        code => Some(*code),
    }
}

/// The terminal in raw mode with an alternate screen; restored when dropped. A panic restores it before
/// it says anything, by ratatui's hook.
struct Screen(Terminal<CrosstermBackend<BufWriter<Stdout>>>);

impl Screen {
    /// More than a frame of a large terminal: each is written at once, so that none is ever seen in halves.
    const BUFFER: usize = 256 * 1024;

    fn take() -> io::Result<Self> {
        ratatui::try_init()?;
        let out = BufWriter::with_capacity(Self::BUFFER, io::stdout());
        let terminal = Terminal::new(CrosstermBackend::new(out));
        terminal.map(Self).inspect_err(|_| ratatui::restore())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Twice would put the cursor over what the panic said.
        if !std::thread::panicking() {
            ratatui::restore();
        }
    }
}
