//! nginx, haproxy and Postfix as docs/client-address.md sets them up, on a real server.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use uvs_lab::process::{self, Process, SOON};
use uvs_lab::{Host, Lab, rootless, tools};

/// The ports of the page's snippets.
pub(crate) const NGINX: u16 = 8081;
pub(crate) const HAPROXY: u16 = 8082;
pub(crate) const NGINX_STREAM: u16 = 8083;
pub(crate) const POSTFIX: u16 = 2525;
/// Where Debian has haproxy, Postfix's daemons, and nginx's module for streams.
const HAPROXY_PROGRAM: &str = "/usr/sbin/haproxy";
const POSTFIX_DAEMONS: &str = "/usr/lib/postfix/sbin";
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A program that takes connections; ended when dropped.
pub(crate) struct Peer {
    #[expect(dead_code, reason = "kept for its drop")]
    process: Process,
    log: PathBuf,
}

impl Peer {
    /// What its log says of those that came.
    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }
}

/// The snippet of the page that bears this name, with the lab's local address in place of the page's.
fn snippet(lab: &Lab, name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/client-address.md");
    let page = fs::read_to_string(page).expect("the page");
    let mark = format!("<!-- tested: {name} -->\n");
    let (_, rest) = page.split_once(&mark).expect("the page has the snippet");
    let (_, rest) = rest.split_once('\n').expect("the fence");
    let (text, _) = rest.split_once("```").expect("the fence's end");
    let local = lab
        .plan
        .local
        .map_or_else(String::new, |local| local.to_string());
    text.replace("192.168.0.8", &local)
}

/// Whether nginx has its module for streams; where not, that is said.
pub(crate) fn has_streams() -> bool {
    let there = Path::new(STREAM_MODULE).exists();
    if !there {
        println!("nginx has no stream module here: it does NOT judge in this run");
    }
    there
}

/// nginx with the page's snippets, that for streams where it has the module, on the lab's first real server.
pub(crate) fn nginx(lab: &Lab, streams: bool) -> Peer {
    let dir = lab.dir().join("proxied");
    fs::create_dir_all(&dir).expect("made");
    let log = dir.join("access.log");
    let (module, stream) = match streams {
        true => (
            format!("load_module {STREAM_MODULE};\n"),
            format!("stream {{\n{}}}\n", snippet(lab, "nginx-stream")),
        ),
        false => (String::new(), String::new()),
    };
    let config = format!(
        "{module}daemon off;\nmaster_process off;\nuser root;\npid {dir}/pid;\nerror_log {dir}/error.log;\nworker_processes 1;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n\
         log_format ends \"$proxy_protocol_addr $proxy_protocol_port $status\";\n\
         access_log {log} ends;\n\
         client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n{}}}\n{stream}",
        snippet(lab, "nginx-http"),
        dir = dir.display(),
        log = log.display(),
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, config).expect("written");
    let words = [
        "-p",
        &dir.display().to_string(),
        "-e",
        "stderr",
        "-c",
        &file.display().to_string(),
    ]
    .map(str::to_owned);
    let command = tools::command("nginx", words).expect("nginx");
    let process = started(&lab.servers[0].host, command, &dir.join("nginx.log"), NGINX);
    Peer { process, log }
}

/// haproxy with the page's snippet, on the lab's first real server; `None` where it is not installed, which is said.
pub(crate) fn haproxy(lab: &Lab) -> Option<Peer> {
    if !Path::new(HAPROXY_PROGRAM).exists() {
        println!("haproxy is not installed: it does NOT judge in this run");
        return None;
    }
    let file = lab.dir().join("haproxy.cfg");
    let config = format!(
        "global\n    maxconn 4096\ndefaults\n    timeout client 30s\n    timeout server 30s\n    timeout connect 5s\n    \
         timeout http-request 30s\n{}",
        snippet(lab, "haproxy")
    );
    fs::write(&file, config).expect("written");
    let words = ["-db".as_ref(), "-f".as_ref(), file.as_os_str()];
    let command = tools::program(Path::new(HAPROXY_PROGRAM), words);
    let log = lab.dir().join("haproxy.log");
    let process = started(&lab.servers[0].host, command, &log, HAPROXY);
    Some(Peer { process, log })
}

/// Postfix with the page's snippet, on the lab's first real server; `None` where it cannot be, which is said.
pub(crate) fn postfix(lab: &Lab) -> Option<Peer> {
    let master = Path::new(POSTFIX_DAEMONS).join("master");
    if !master.exists() || rootless::is_rootless() {
        println!("Postfix is not installed, or has no users here: it does NOT judge in this run");
        return None;
    }
    // Its daemons are nobody's who may look into the lab.
    fs::set_permissions(lab.dir(), fs::Permissions::from_mode(0o755)).expect("open");
    let dir = lab.dir().join("postfix");
    for name in ["conf", "queue", "data"] {
        fs::create_dir_all(dir.join(name)).expect("made");
    }
    let log = dir.join("mail.log");
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {dir}/queue\ndata_directory = {dir}/data\n\
         daemon_directory = {POSTFIX_DAEMONS}\nmyhostname = mail.example\nmydestination =\n\
         inet_interfaces = all\nsmtpd_peername_lookup = no\nsmtpd_client_port_logging = yes\n\
         maillog_file = {log}\nmaillog_file_prefixes = {dir}\n",
        dir = dir.display(),
        log = log.display(),
    );
    fs::write(dir.join("conf/main.cf"), main).expect("written");
    let services = format!(
        "{}anvil unix - - y - 1 anvil\nproxymap unix - - n - - proxymap\nrewrite unix - - y - - trivial-rewrite\n\
         postlog unix-dgram n - n - 1 postlogd\n",
        snippet(lab, "postfix")
    );
    fs::write(dir.join("conf/master.cf"), services).expect("written");
    let conf = dir.join("conf").display().to_string();
    let data = dir.join("data").display().to_string();
    // The latter makes the directories of its queue, and gives them to their users.
    for (program, words) in [
        ("/bin/chown", ["postfix", &data, ""]),
        ("/usr/sbin/postfix", ["-c", &conf, "check"]),
    ] {
        let words = words.into_iter().filter(|word| !word.is_empty());
        let done = process::output(tools::program(Path::new(program), words), "", SOON);
        done.expect("Postfix has what it needs");
    }
    let words = ["-c", &conf, "-d"];
    let command = tools::program(&master, words);
    let server = &lab.servers[0].host;
    let process = started(server, command, &dir.join("master.log"), POSTFIX);
    Some(Peer { process, log })
}

fn started(host: &Host, command: std::process::Command, log: &Path, port: u16) -> Process {
    let mut process = host.spawn(command, log).expect("it starts");
    let answers = || TcpStream::connect(("127.0.0.1", port)).is_ok();
    let ready = process.wait_ready(SOON, |_| host.enter(answers).unwrap_or(false));
    ready.expect("it takes connections");
    process
}
