//! `uvs plugin check FILE`: the conformance suite and three measurements of memory on a plugin.
//!
//! The plugin runs in a child process, so that one that crashes or never returns is a finding like any
//! other: the child announces each part before it begins, and the last announced one is to blame.

use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use uvs_control::plugins::DEFAULT_DIRECTORY;
use uvs_plugin::check::{Listener, Outcome};
use uvs_plugin::file::Image;
use uvs_plugin::host::Plugin;

use crate::commands::FAILED;

/// What is shown of what the plugin itself wrote to standard error.
const SHOWN: usize = 2000;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The shared library; anyone's, anywhere
    file: PathBuf,
    /// Seconds after which the check of a plugin that hangs is abandoned
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// Run the plugin in this very process
    #[arg(long, hide = true)]
    here: bool,
}

pub(super) fn main(args: &Args) -> ExitCode {
    if args.here {
        return try_here(&args.file);
    }
    match supervise(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("uvs plugin check: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Runs the child to its end, however that comes.
fn supervise(args: &Args) -> std::io::Result<ExitCode> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["plugin", "check", "--here"])
        .arg(&args.file)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let errors = child.stderr.take();
    let errors = std::thread::spawn(|| errors.map_or_else(String::new, beginning));
    let status = wait(&mut child, Duration::from_secs(args.timeout))?;
    let said = errors.join().unwrap_or_default();
    let (code, verdict) = match status {
        None => (
            FAILED,
            Some(format!(
                "does not return (given up after {} s)",
                args.timeout
            )),
        ),
        Some(status) => match status.code() {
            Some(0) => (0, None),
            Some(_) => (FAILED, None),
            None => (FAILED, Some(format!("crashed: {status}"))),
        },
    };
    if let Some(verdict) = verdict {
        println!("FAILED\n      it {verdict}; the daemon would have shared its fate");
    }
    if !said.is_empty() {
        println!("\nwritten to standard error meanwhile:\n{said}");
    }
    Ok(ExitCode::from(code))
}

/// `None` where the time was up; then it is dead now.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The beginning of what comes out of `pipe`, which is read to its end: ten thousand panics are one message.
fn beginning(mut pipe: impl Read) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = pipe.read(&mut chunk) {
        let room = SHOWN.saturating_sub(text.len());
        text.extend_from_slice(&chunk[..n.min(room)]);
    }
    let cut = text.len() == SHOWN;
    let mut text = String::from_utf8_lossy(&text).trim_end().to_owned();
    if cut {
        text += " …";
    }
    text
}

/// The child's part.
fn try_here(file: &Path) -> ExitCode {
    let mut screen = Screen::new();
    screen.begin("loading");
    let plugin = Image::anywhere(file)
        .map_err(Into::into)
        .and_then(Plugin::load);
    let plugin = match plugin {
        Ok(plugin) => plugin,
        Err(error) => {
            screen.end(Err(error.to_string()));
            return ExitCode::from(FAILED);
        }
    };
    let (name, version, abi) = (plugin.name(), plugin.version(), plugin.abi());
    screen.end(Ok(format!(
        "{name} {version}, ABI {abi}: {}",
        plugin.about()
    )));
    screen.begin("name");
    let free = uvs_schedulers::find(name).is_none();
    screen.end(match free {
        true => Ok(String::new()),
        false => Err(format!(
            "{name:?} is a built-in scheduler: give it another name"
        )),
    });
    let conforms = uvs_plugin::check::run(&plugin, &mut screen);
    if !(free && conforms) {
        return ExitCode::from(FAILED);
    }
    println!("{name} conforms. {}", next_step(file));
    ExitCode::SUCCESS
}

/// Where the parts are printed, as they begin, go on and end.
#[derive(Clone)]
struct Screen(Arc<Mutex<Line>>);

/// The line of the part that runs.
struct Line {
    /// It can be written anew.
    terminal: bool,
    part: String,
    begun: Option<Instant>,
    percent: Option<u64>,
    /// How many of [`Line::WHEN`] were told.
    told: usize,
}

impl Screen {
    /// With a thread that tells once a second of a part that takes long.
    fn new() -> Self {
        let screen = Self(Arc::new(Mutex::new(Line {
            terminal: std::io::stdout().is_terminal(),
            part: String::new(),
            begun: None,
            percent: None,
            told: 0,
        })));
        let clone = screen.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                clone.line().go_on();
            }
        });
        screen
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Screen {
    fn begin(&mut self, part: &str) {
        let mut line = self.line();
        part.clone_into(&mut line.part);
        line.begun = Some(Instant::now());
        (line.percent, line.told) = (None, 0);
        print!("{part:<34}");
        // A part that crashes the process must be visible before it does.
        let _ = std::io::stdout().flush();
    }

    fn progress(&mut self, percent: u64) {
        self.line().percent = Some(percent);
    }

    fn end(&mut self, outcome: Outcome) {
        let mut line = self.line();
        line.begun = None;
        if line.terminal && line.told > 0 {
            line.rewrite("");
        }
        match outcome {
            Ok(remark) => println!("{}", format!("ok  {remark}").trim_end()),
            Err(what) => println!("FAILED\n      {what}"),
        }
    }
}

impl Line {
    /// The seconds after which a file, which keeps every word, is told how long a part takes.
    const WHEN: [u64; 9] = [1, 2, 5, 10, 20, 30, 60, 120, 240];

    fn go_on(&mut self) {
        let Some(begun) = self.begun else {
            return;
        };
        let seconds = begun.elapsed().as_secs();
        let next = match self.terminal {
            true => seconds > 0,
            false => Self::WHEN
                .get(self.told)
                .is_some_and(|next| seconds >= *next),
        };
        if !next {
            return;
        }
        self.told += 1;
        let percent = self.percent.map_or_else(String::new, |p| format!(" {p} %"));
        let now = format!("… {seconds} s{percent} ");
        if self.terminal {
            self.rewrite(&now);
        } else {
            print!("{now}");
        }
        let _ = std::io::stdout().flush();
    }

    /// Writes the line anew, and erases what was behind it (ECMA-48, EL).
    fn rewrite(&self, now: &str) {
        print!("\r{:<34}{now}\x1b[K", self.part);
    }
}

/// What the daemon wants beyond a good plugin.
fn next_step(file: &Path) -> String {
    let installed = file
        .canonicalize()
        .is_ok_and(|f| f.starts_with(DEFAULT_DIRECTORY));
    let roots = file
        .metadata()
        .is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o022 == 0);
    if installed && roots {
        return "It can be used at once: ipvsadm -A … -s NAME".to_owned();
    }
    format!(
        "Install it, as root's own file: install -D -m 644 {} -t {DEFAULT_DIRECTORY}",
        file.display()
    )
}
