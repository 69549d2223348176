//! `kill -9` under load, in every mode: 300 new connections a second, 40 that are kept, and a download. What the kernel
//! has goes on without a fault; who is new meanwhile waits, and nobody is refused.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use uvs_lab::traffic::Download;
use uvs_lab::{Daemon, Lab, Mode, Options};

use crate::director::{Bpffs, connect, kill, line};
use crate::stand::{PATIENCE, ask_over, lab, uvs};

/// New connections a second, and kept ones.
const NEW: u32 = 300;
const KEPT: usize = 40;
/// How long there is a load before the daemon is killed, no daemon, and a load after that.
const LOADED: Duration = Duration::from_secs(2);
const DEAD: Duration = Duration::from_millis(1500);
/// Between two requests over a kept connection.
const PAUSE: Duration = Duration::from_millis(50);
const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What became of new connections.
#[derive(Default)]
struct Newcomers {
    served: AtomicU32,
    /// Of those, the ones that came while there was no daemon.
    late: AtomicU32,
    cut: AtomicU32,
}

/// A file with the hook and the mode's service: a daemon that begins without it would have the host refuse clients.
fn configured(lab: &Lab, bpffs: &Bpffs) -> String {
    let line = line(lab, bpffs, "tier");
    let file = lab.dir().join("hook.toml");
    let mut text = fs::read_to_string(&file).expect("just written");
    let plan = &lab.plan;
    let mode = plan.mode;
    let _ = write!(
        text,
        "[[service]]\ntcp = \"{}\"\nscheduler = \"wrr\"\nmode = \"{mode}\"\n",
        plan.vip
    );
    if let Some(local) = plan.local {
        let _ = writeln!(text, "local_addresses = [\"{local}\"]");
    }
    for server in &plan.servers[..2] {
        let address = match mode {
            Mode::Nat | Mode::FullNat => server.to_string(),
            Mode::Dr | Mode::Ipip => server.ip().to_string(),
        };
        let _ = write!(text, "[[service.server]]\naddress = \"{address}\"\n");
    }
    fs::write(&file, text).expect("written");
    line
}

/// One request on a connection of its own, which may take until there is a daemon again.
fn come(vip: SocketAddr) -> Result<(), ErrorKind> {
    let mut stream = TcpStream::connect_timeout(&vip, PATIENCE).map_err(|e| e.kind())?;
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(REQUEST).map_err(|e| e.kind())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| e.kind())?;
    assert!(
        answer.ends_with("rs1\n") || answer.ends_with("rs2\n"),
        "{answer:?}"
    );
    Ok(())
}

/// Lets new ones come until told to stop, each on a thread, as a slow one must not hold up the next.
fn newcomers(vip: SocketAddr, count: &Newcomers, is_dead: &AtomicBool, stop: &AtomicBool) {
    thread::scope(|scope| {
        let (start, mut come_so_far) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            sleep(
                (start + Duration::from_secs(1) * come_so_far / NEW)
                    .saturating_duration_since(Instant::now()),
            );
            come_so_far += 1;
            scope.spawn(|| {
                let late = is_dead.load(Ordering::Relaxed);
                match come(vip) {
                    Ok(()) => {
                        count.served.fetch_add(1, Ordering::Relaxed);
                        count.late.fetch_add(u32::from(late), Ordering::Relaxed);
                    }
                    Err(error) => {
                        println!(
                            "a new connection: {error}, {}",
                            if late { "without a daemon" } else { "with one" }
                        );
                        count.cut.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

/// Asks over the kept connections, all in turn, until told to stop; how often each was answered at least.
fn keep_asking(kept: &mut [TcpStream], stop: &AtomicBool) -> u32 {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        kept.iter_mut().for_each(|stream| drop(ask_over(stream)));
        rounds += 1;
        // A server ends a connection by itself after a thousand requests.
        sleep(PAUSE);
    }
    rounds
}

fn survives_kill_under_load(mode: Mode) {
    let (lab, _) = lab(mode, Options::default());
    let bpffs = Bpffs::new();
    let line = configured(&lab, &bpffs);
    let start = || Daemon::start_with(&lab, uvs(), &line).expect("uvs runs");
    let first = start();
    let content = lab.content("40M", 40 << 20).expect("content");
    let mut kept: Vec<TcpStream> = (0..KEPT).map(|_| connect(&lab)).collect();
    let url = lab.plan.url("/40M?rate=5m");
    let download = Download::start(&lab.client, &url, &lab.dir().join("down")).expect("curl runs");
    let (count, is_dead, stop) = (
        Newcomers::default(),
        AtomicBool::new(false),
        AtomicBool::new(false),
    );
    let (second, rounds) = thread::scope(|scope| {
        let coming = scope.spawn(|| {
            let vip = lab.plan.vip.into();
            lab.client.enter(|| newcomers(vip, &count, &is_dead, &stop))
        });
        let asking = scope.spawn(|| keep_asking(&mut kept, &stop));
        sleep(LOADED);
        is_dead.store(true, Ordering::Relaxed);
        kill(first);
        sleep(DEAD);
        let second = start();
        is_dead.store(false, Ordering::Relaxed);
        sleep(LOADED);
        stop.store(true, Ordering::Relaxed);
        coming
            .join()
            .expect("it ends")
            .expect("the client's namespace");
        (second, asking.join().expect("no kept connection fails"))
    });
    let [served, late, cut] =
        [&count.served, &count.late, &count.cut].map(|n| n.load(Ordering::Relaxed));
    println!(
        "{mode}: kept {KEPT} connections, each answered {rounds} times, none cut; new {served} served, {late} of them \
         had come without a daemon, {cut} cut"
    );
    assert_eq!(cut, 0, "{mode}: {}", second.log());
    assert!(late > NEW / 2, "{mode}: {late} came without a daemon");
    assert!(rounds > 3, "{mode}: {rounds}");
    let whole = download.finish().expect("it ends");
    whole.must_equal(&content).expect("every byte");
    second.stop().expect("it ends well");
}

#[test]
fn nat_goes_on_under_load() {
    survives_kill_under_load(Mode::Nat);
}

#[test]
fn dr_goes_on_under_load() {
    survives_kill_under_load(Mode::Dr);
}

#[test]
fn fullnat_goes_on_under_load() {
    survives_kill_under_load(Mode::FullNat);
}

#[test]
fn ipip_goes_on_under_load() {
    survives_kill_under_load(Mode::Ipip);
}
