//! HTTP through the director with curl: who answered, and did every byte arrive.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::sha256;
use crate::process::command_line;
use crate::{Content, Error, Host, Lab, Result, tools};

/// Longer than any transfer here takes on a busy machine; a stalled one fails the run instead of hanging it.
const LIMIT: Duration = Duration::from_secs(120);

/// How many requests each real server answered, by its name.
pub type Answers = BTreeMap<String, u32>;

/// What one would type for [`requests`].
pub fn requests_line(url: &str, count: u32) -> String {
    format!("for i in $(seq {count}); do curl -s {url}; done | sort | uniq -c")
}

/// Sends `count` requests, one after the other and each on a connection of its own.
///
/// One curl for each: it closes first, so its port waits in the client's TIME_WAIT and no later connection
/// is taken for this one. Where the server closes first the client uses ports again, and a director must
/// send such a connection, without scheduling it, to where the old one went.
pub fn requests(client: &Host, url: &str, count: u32) -> Result<Answers> {
    const SCRIPT: &str = r#"for i in $(seq "$1"); do curl -sSf -m 10 "$2" || exit; done"#;
    tools::require(&["curl"])?;
    let command = tools::command("sh", ["-c", SCRIPT, "requests", &count.to_string(), url])?;
    let answered = client.output(command, LIMIT)?;
    let mut answers = Answers::new();
    for name in answered.stdout.lines() {
        *answers.entry(name.to_owned()).or_default() += 1;
    }
    let total: u32 = answers.values().sum();
    if total != count {
        return Err(Error::Wrong(format!(
            "{count} requests, but {total} answers"
        )));
    }
    Ok(answers)
}

/// What a download brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The real server that sent it.
    pub server: String,
    /// Its bytes.
    pub length: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
}

impl Received {
    /// An error that names what differs from `content`.
    pub fn must_equal(&self, content: &Content) -> Result<()> {
        if (self.length, &self.sha256) == (content.length, &content.sha256) {
            return Ok(());
        }
        Err(Error::Wrong(format!(
            "{} from {}: {} bytes with sha256 {} instead of {} bytes with {}",
            content.path, self.server, self.length, self.sha256, content.length, content.sha256
        )))
    }
}

/// Downloads a URL to its end.
pub fn download(client: &Host, url: &str, scratch: &Path) -> Result<Received> {
    Download::start(client, url, scratch)?.finish()
}

/// A download in the background; ended when dropped.
#[derive(Debug)]
pub struct Download {
    child: Child,
    line: String,
    headers: PathBuf,
    hashing: Option<JoinHandle<io::Result<(String, u64)>>>,
}

impl Download {
    /// Starts it; append `?rate=1m` to the URL for a server that sends 1 MiB a second. Its headers and
    /// complaints go to files in `scratch`, which no other download may use at the time.
    pub fn start(client: &Host, url: &str, scratch: &Path) -> Result<Self> {
        fs::create_dir_all(scratch).map_err(Error::io(format!("create {}", scratch.display())))?;
        let headers = scratch.join("headers");
        let errors = scratch.join("errors");
        let log =
            File::create(&errors).map_err(Error::io(format!("create {}", errors.display())))?;
        let mut command = tools::command(
            "curl",
            ["-s", "-S", "-f", "-m", &LIMIT.as_secs().to_string(), "-D"],
        )?;
        command
            .arg(&headers)
            .arg(url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0);
        let line = command_line(&command);
        let spawned = client.enter(|| command.spawn())?;
        let mut child = spawned.map_err(Error::io(format!("run `{line}`")))?;
        let hashing = child
            .stdout
            .take()
            .map(|pipe: ChildStdout| thread::spawn(|| sha256(pipe)));
        Ok(Self {
            child,
            line,
            headers,
            hashing,
        })
    }

    /// Waits for the first answer's headers: the real server that sends it.
    pub fn server(&self) -> Result<String> {
        let end = Instant::now() + LIMIT;
        while Instant::now() < end {
            if let Some(name) = self.server_in_headers() {
                return Ok(name);
            }
            if self.is_finished() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.server_in_headers()
            .ok_or_else(|| self.failed("no answer from a real server"))
    }

    /// Whether all bytes came (or none will).
    pub fn is_finished(&self) -> bool {
        self.hashing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<Received> {
        let hashed = self.hashing.take().and_then(|thread| thread.join().ok());
        let status = self.child.wait().map_err(Error::io("wait for curl"))?;
        if !status.success() {
            return Err(self.failed(&status.to_string()));
        }
        let (sha256, length) = hashed
            .unwrap_or_else(|| Err(io::ErrorKind::BrokenPipe.into()))
            .map_err(Error::io("read what curl downloads"))?;
        Ok(Received {
            server: self.server()?,
            length,
            sha256,
        })
    }

    fn server_in_headers(&self) -> Option<String> {
        let headers = fs::read_to_string(&self.headers).ok()?;
        // Only a whole line: curl may be in the middle of one.
        let line = headers
            .split_inclusive('\n')
            .find(|line| line.starts_with("X-Real-Server: "))?;
        line.strip_suffix("\r\n")
            .map(|line| line["X-Real-Server: ".len()..].to_owned())
    }

    fn failed(&self, status: &str) -> Error {
        let output = fs::read_to_string(self.headers.with_file_name("errors")).unwrap_or_default();
        Error::Failed {
            command: self.line.clone(),
            status: status.to_owned(),
            output,
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Uploads a file to a URL under `/upload/`, and reads what the real server that answered stored.
pub fn upload(lab: &Lab, client: &Host, url: &str, content: &Content) -> Result<Received> {
    let name = url.rsplit('/').next().unwrap_or_default();
    let mut command = tools::command("curl", ["-sSf", "-m", &LIMIT.as_secs().to_string()])?;
    command
        .args(["-o", "/dev/null", "-w", "%header{x-real-server}", "-T"])
        .arg(&content.file)
        .arg(url);
    let server = client.output(command, LIMIT)?.stdout;
    let stored = lab
        .servers
        .iter()
        .find(|s| s.name() == server)
        .map(|s| s.uploaded(name));
    let stored =
        stored.ok_or_else(|| Error::Wrong(format!("the upload was answered by {server:?}")))?;
    let read = File::open(&stored).and_then(sha256);
    let (sha256, length) = read.map_err(Error::io(format!("read {}", stored.display())))?;
    Ok(Received {
        server,
        length,
        sha256,
    })
}
