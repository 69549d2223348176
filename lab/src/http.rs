//! A real HTTP server on a real server: nginx, one process, its files in the lab's directory.
//!
//! `/` answers the server's name, every answer bears it as `X-Real-Server`, `/NAME` is a file of the lab's
//! shared web root (`?rate=1m` paces it at the server, so that the download really is running all the
//! while), and `PUT /upload/NAME` keeps the body. Connections stay open as long as the client likes.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::process::{Process, SOON};
use crate::{Error, Host, Result, tools};

/// Both of the ports that the plans use.
pub(crate) const PORTS: [u16; 2] = [80, 8080];

/// A running nginx.
#[derive(Debug)]
pub(crate) struct HttpServer {
    pub(crate) process: Process,
    dir: PathBuf,
}

impl HttpServer {
    /// Starts nginx in `host` with its files in `dir`, and waits until it takes connections.
    pub(crate) fn start(host: &Host, dir: &Path, web_root: &Path) -> Result<Self> {
        let config = dir.join("nginx.conf");
        fs::create_dir_all(dir.join("upload"))
            .map_err(Error::io(format!("create {}", dir.display())))?;
        fs::write(&config, configuration(host.role(), dir, web_root))
            .map_err(Error::io(format!("write {}", config.display())))?;
        let mut command = tools::command("nginx", ["-p"])?;
        command
            .arg(dir)
            .arg("-e")
            .arg(dir.join("error.log"))
            .arg("-c")
            .arg(config);
        let mut process = host.spawn(command, &dir.join("output.log"))?;
        let here = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let answers = || {
            PORTS
                .iter()
                .all(|&port| TcpStream::connect(here(port)).is_ok())
        };
        process.wait_ready(SOON, |_| host.enter(answers).unwrap_or(false))?;
        Ok(Self {
            process,
            dir: dir.to_owned(),
        })
    }

    /// Where the body of `PUT /upload/NAME` lies.
    pub(crate) fn uploaded(&self, name: &str) -> PathBuf {
        self.dir.join("upload").join(name)
    }
}

/// Without a master process nginx changes no user, which a user namespace would not let it. As root it would
/// still give its directories to nobody.
fn configuration(name: &str, dir: &Path, web_root: &Path) -> String {
    let (dir, web_root) = (dir.display(), web_root.display());
    let listen: String = PORTS
        .map(|port| {
            format!("listen {port} backlog=4096; listen [::]:{port} ipv6only=on backlog=4096; ")
        })
        .concat();
    format!(
        "daemon off;
master_process off;
user root;
pid {dir}/nginx.pid;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    sendfile on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    server {{
        {listen}
        add_header X-Real-Server {name} always;
        default_type application/octet-stream;
        location = / {{ default_type text/plain; return 200 \"{name}\\n\"; }}
        location /upload/ {{ root {dir}; dav_methods PUT; }}
        location / {{ root {web_root}; limit_rate $arg_rate; }}
    }}
}}
"
    )
}

/// A file of random bytes that every real server serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The path in a URL, with its slash.
    pub path: String,
    /// Its bytes.
    pub length: u64,
    /// Their SHA-256, in hex.
    pub sha256: String,
    /// The file itself, to upload it.
    pub file: PathBuf,
}

impl Content {
    /// Writes `length` bytes that do not compress and are the same on every machine.
    pub(crate) fn create(web_root: &Path, name: &str, length: u64) -> Result<Self> {
        let file = web_root.join(name);
        let write = || -> io::Result<()> {
            let mut bytes = Noise(length).take(length);
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&file)?);
            io::copy(&mut bytes, &mut out)?;
            out.flush()
        };
        write().map_err(Error::io(format!("write {}", file.display())))?;
        let read = File::open(&file).and_then(sha256);
        let (sha256, _) = read.map_err(Error::io(format!("read {}", file.display())))?;
        Ok(Self {
            path: format!("/{name}"),
            length,
            sha256,
            file,
        })
    }
}

/// The SHA-256 in hex and the number of bytes of all that can be read.
pub(crate) fn sha256(mut from: impl Read) -> io::Result<(String, u64)> {
    let mut hash = Sha256::new();
    let length = io::copy(&mut from, &mut hash)?;
    Ok((
        hash.finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        length,
    ))
}

/// Endless pseudo-random bytes: splitmix64 from a seed.
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_has_its_length_and_hash() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let content = Content::create(dir.path(), "3M", 3 << 20).expect("written");
        let (sha256, length) = sha256(File::open(&content.file).expect("there")).expect("read");
        assert_eq!(
            (content.length, content.sha256, content.path),
            (length, sha256, "/3M".to_owned())
        );
    }

    #[test]
    fn sha256_is_the_standards() {
        let (abc, length) = sha256(&b"abc"[..]).expect("read");
        assert_eq!(
            abc,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(length, 3);
    }
}
