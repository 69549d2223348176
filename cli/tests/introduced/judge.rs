//! A server that takes connections with a header of the PROXY protocol alone, and remembers what each said.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};
use uvs_core::testing::proxy::{self, Introduced};
use uvs_lab::Host;

use crate::LONGEST;

/// What it says behind the header.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Talk {
    /// A line at once, as SMTP does; then each line of the client's again, up to QUIT.
    First,
    /// Nothing until the client has closed its side: then how much that was, its SHA-256, and it all again.
    Last,
}

/// A judge that listens, for as long as the program runs.
pub(crate) struct Judge {
    seen: Arc<Mutex<Vec<Result<Introduced, String>>>>,
}

impl Judge {
    /// Listens at a port of a host's, in both families.
    pub(crate) fn start(host: &Host, port: u16, talk: Talk) -> Self {
        let listener = host.enter(|| TcpListener::bind(("::", port)));
        let listener = listener.expect("entered").expect("it listens");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let judge = Self { seen: seen.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                thread::spawn(move || {
                    let introduced = serve(stream, talk, |introduced| {
                        seen.lock().expect("whole").push(Ok(introduced));
                    });
                    if let Err(why) = introduced {
                        seen.lock().expect("whole").push(Err(why));
                    }
                });
            }
        });
        judge
    }

    /// The clients that were named, each with how often.
    pub(crate) fn named(&self) -> BTreeMap<SocketAddr, usize> {
        let seen = self.seen.lock().expect("whole");
        let named = seen
            .iter()
            .map(|one| one.as_ref().expect("a whole header").src);
        counted(named)
    }

    /// What the last one said.
    pub(crate) fn last(&self) -> Introduced {
        let seen = self.seen.lock().expect("whole");
        seen.last()
            .cloned()
            .expect("one came")
            .expect("a whole header")
    }
}

/// How often each is there.
pub(crate) fn counted(ends: impl IntoIterator<Item = SocketAddr>) -> BTreeMap<SocketAddr, usize> {
    let mut counts = BTreeMap::new();
    for end in ends {
        *counts.entry(end).or_default() += 1;
    }
    counts
}

fn serve(stream: TcpStream, talk: Talk, name: impl FnOnce(Introduced)) -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    stream.set_read_timeout(Some(LONGEST)).map_err(text)?;
    let mut reader = BufReader::new(stream.try_clone().map_err(text)?);
    let mut header = Vec::new();
    let introduced = loop {
        let mut byte = [0];
        reader.read_exact(&mut byte).map_err(text)?;
        header.push(byte[0]);
        if let Some((introduced, _)) = proxy::read(&header)? {
            break introduced;
        }
    };
    name(introduced);
    // How a client ends is the client's to judge.
    match talk {
        Talk::First => speak_first(&mut reader, stream),
        Talk::Last => speak_last(&mut reader, stream),
    }
    .unwrap_or_default();
    Ok(())
}

fn speak_first(reader: &mut impl BufRead, mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"220 ready\r\n")?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "QUIT\r\n" {
        write!(stream, "250 {line}")?;
        line.clear();
    }
    stream.write_all(b"221 bye\r\n")
}

fn speak_last(reader: &mut impl Read, mut stream: TcpStream) -> std::io::Result<()> {
    let mut all = Vec::new();
    reader.read_to_end(&mut all)?;
    writeln!(stream, "{} {}", all.len(), sha256(&all))?;
    stream.write_all(&all)?;
    stream.shutdown(Shutdown::Write)
}

/// The SHA-256 in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
