//! The one thread that may start programs. It was there before the filter of the others, and does nothing else.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use libc::sock_filter;

/// A program to start, and where its process is wanted.
type Order = (Command, Sender<io::Result<Child>>);

static STARTER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();

/// Starts the thread, with a filter for itself and what it starts, where there is to be one.
pub(super) fn begin(filter: Option<Vec<sock_filter>>) -> io::Result<()> {
    let (to, orders) = channel::<Order>();
    let (tell, told) = channel();
    let thread = thread::Builder::new().name("uvs-starter".to_owned());
    thread.spawn(move || {
        let filtered = filter.map_or(Ok(()), |filter| uvs_seccomp::filter(&filter));
        let _ = tell.send(filtered);
        for (mut command, back) in orders {
            // Whoever asked may have ended.
            let _ = back.send(command.spawn());
        }
    })?;
    let _ = STARTER.set(Mutex::new(to));
    told.recv().unwrap_or_else(|_| Err(gone()))
}

/// Starts a program: by that thread in a daemon, and in other processes as ever.
///
/// # Errors
/// The host's.
pub(crate) fn start(mut command: Command) -> io::Result<Child> {
    let Some(starter) = STARTER.get() else {
        return command.spawn();
    };
    let (back, child) = channel();
    let starter = starter.lock().unwrap_or_else(PoisonError::into_inner);
    starter.send((command, back)).map_err(|_| gone())?;
    drop(starter);
    child.recv().unwrap_or_else(|_| Err(gone()))
}

fn gone() -> io::Error {
    io::Error::other("the thread that starts programs has ended")
}
