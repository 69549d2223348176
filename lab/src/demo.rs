//! The demo: for each mode, and for one in IPv6, real HTTP through the director, weights, a drain, a removal.
//!
//! Nothing is about right here: the share of each real server is what wrr owes it, to the request, and the
//! download that runs through the drain is compared byte by byte. What differs is said and fails the demo.

mod part;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use part::Part;

use crate::screen::Screen;
use crate::{Error, Families, Lab, Mode, Names, Options, Result, SERVERS};

/// The weights of rs1, rs2 and rs3.
pub const WEIGHTS: [u32; SERVERS] = [3, 1, 2];

/// How a mode's part ended.
enum Outcome {
    Shown,
    Impossible(String),
    Failed(Error),
}

/// What is shown: a mode, and the families of its clients and servers.
pub type Show = (Mode, Families);

/// What is shown where nothing else is asked for.
pub fn all() -> Vec<Show> {
    let in_ipv4 = Mode::ALL.map(|mode| (mode, Families::V4));
    in_ipv4
        .into_iter()
        .chain([(Mode::Nat, Families::V6)])
        .collect()
}

/// Shows one after the other. Returns whether everything that could be shown was right, and
/// something could be shown.
pub fn run(
    screen: &mut Screen,
    uvs: &Path,
    shows: &[Show],
    interrupted: &AtomicBool,
) -> Result<bool> {
    let start = Instant::now();
    let names = Names::unique();
    screen.title("uvs lab demo");
    screen.say(
        "Each mode gets a client, a director that runs uvs, and three real servers with nginx:",
    );
    screen.say("network namespaces of this machine, removed at the end. Lines with # are commands you could type.");
    let mut outcomes = Vec::new();
    for &what in shows {
        let outcome = show(screen, &names, uvs, what, interrupted)?;
        if let Outcome::Failed(error) = &outcome {
            screen.bad(format!("{}: {error}", title(what)));
        }
        outcomes.push((title(what), outcome));
    }
    let left = names.namespaces();
    Ok(summary(
        screen,
        &outcomes,
        &left,
        start.elapsed().as_secs_f32(),
    ))
}

fn show(
    screen: &mut Screen,
    names: &Names,
    uvs: &Path,
    what: Show,
    interrupted: &AtomicBool,
) -> Result<Outcome> {
    let (mode, families) = what;
    screen.title(format!("{}: {}", title(what), about(mode)));
    let lab = Lab::build_as(names, mode, Options::default())?;
    let mut part = Part {
        screen,
        lab: &lab,
        service: lab.plan.service(families),
        uvs,
        interrupted,
    };
    let prepared = part.prepare();
    if let (Err(error @ Error::Failed { .. }), Some(why)) = (&prepared, impossible(mode)) {
        screen.bad(error);
        return Ok(Outcome::Impossible(why));
    }
    match prepared.and_then(|()| part.show()) {
        Ok(()) => Ok(Outcome::Shown),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(error) => Ok(Outcome::Failed(error)),
    }
}

/// The mode, and the families where they are not IPv4.
fn title((mode, families): Show) -> String {
    match families {
        Families::V4 => mode.name().to_owned(),
        Families::V6 | Families::V6To4 | Families::V4To6 => format!("{mode} {families}"),
    }
}

fn about(mode: Mode) -> &'static str {
    match mode {
        Mode::Dr => {
            "the director changes only the MAC address; the real server answers the client itself"
        }
        Mode::Nat => "the director is the real servers' default gateway and rewrites both ways",
        Mode::FullNat => {
            "real servers on port 8080 see a local address of the director and need no route back"
        }
        Mode::Ipip => {
            "the director wraps packets; real servers in another subnet unwrap and answer the client"
        }
    }
}

/// Why real servers cannot be prepared for the mode on this machine, if so: a kernel without `ipip` needs
/// /dev/net/tun, which a container may lack and a user may not be let open.
fn impossible(mode: Mode) -> Option<String> {
    if mode != Mode::Ipip {
        return None;
    }
    let opened = File::options().read(true).write(true).open("/dev/net/tun");
    let error = opened.err()?;
    Some(format!(
        "this kernel has no ipip, and a real server cannot unwrap by /dev/net/tun: {error}"
    ))
}

fn summary(
    screen: &mut Screen,
    outcomes: &[(String, Outcome)],
    left: &[String],
    seconds: f32,
) -> bool {
    screen.title("summary");
    let (mut shown, mut wrong) = (0, 0);
    for (what, outcome) in outcomes {
        match outcome {
            Outcome::Shown => {
                shown += 1;
                screen.good(format!("{what:<8} every share exact, drained, removed"));
            }
            Outcome::Impossible(why) => screen.bad(format!("{what:<8} not shown: {why}")),
            Outcome::Failed(error) => {
                wrong += 1;
                let text = error.to_string();
                screen.bad(format!(
                    "{what:<8} FAILED: {}",
                    text.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    if !left.is_empty() {
        wrong += 1;
        screen.bad(format!("left behind: {}", left.join(", ")));
    }
    let all = outcomes.len();
    screen.say(format!(
        "{shown} of {all} shown in {seconds:.1} s; {} namespaces left behind.",
        left.len()
    ));
    shown > 0 && wrong == 0
}
