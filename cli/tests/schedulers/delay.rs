//! A long line to a real server, on kernels without netem: what clients send to one of its ports is taken
//! off its interface, kept for a while, and put in again through a veth pair. What it sends goes at once.

use std::path::Path;
use std::time::Duration;

use uvs_lab::process::Process;
use uvs_lab::{Host, tools};

/// Frames go from one packet socket to another with their virtio_net_hdr, since checksums may be unfinished.
/// The first socket sees them before netfilter drops them (ETH_P_ALL), and not those that leave
/// (PACKET_IGNORE_OUTGOING, 23).
const SCRIPT: &str = r#"
import queue, socket, sys, threading, time
SOL_PACKET, VNET_HDR, IGNORE_OUTGOING, ETH_P_ALL = 263, 15, 23, 3
port, delay = int(sys.argv[1]), float(sys.argv[2])

def open_packet_socket(interface, protocol):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
    s.setsockopt(SOL_PACKET, VNET_HDR, 1)
    s.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    s.bind((interface, protocol))
    return s

waiting = queue.Queue()
out = open_packet_socket("line0", 0)

def put_in():
    while True:
        due, frame = waiting.get()
        time.sleep(max(0, due - time.monotonic()))
        out.send(frame)

threading.Thread(target=put_in, daemon=True).start()
tap = open_packet_socket("eth0", ETH_P_ALL)
print("ready", flush=True)
while True:
    frame = tap.recv(1 << 17)
    ip = frame[10 + 14:]
    if frame[22:24] == b"\x08\x00" and ip[9] == 6 and int.from_bytes(ip[22:24], "big") == port:
        waiting.put((time.monotonic() + delay, frame))
"#;

/// Ends with its process, and its interfaces with their namespace.
pub(crate) struct LongLine(#[expect(dead_code, reason = "kept for its drop")] Process);

impl LongLine {
    /// Delays what comes for `port` of `host`; logs into `dir`.
    pub(crate) fn to(host: &Host, port: u16, delay: Duration, dir: &Path) -> Self {
        let mac = host.mac("eth0").expect("its MAC address");
        // The same address, so that the frames are the host's on this side as well.
        host.ip(&format!(
            "link add line0 type veth peer name line1 address {mac}\nlink set line0 up\nlink set line1 up"
        ))
        .expect("the veth pair");
        for interface in ["all", "line1"] {
            let name = format!("net.ipv4.conf.{interface}.rp_filter");
            host.sysctl(&name, "0").expect("set");
        }
        for line in [
            "nft add table netdev line".to_owned(),
            "nft add chain netdev line in { type filter hook ingress device eth0 priority 0 ; }"
                .to_owned(),
            format!("nft add rule netdev line in tcp dport {port} drop"),
        ] {
            host.run(&line).expect("netfilter");
        }
        let seconds = delay.as_secs_f64().to_string();
        let words = ["-c", SCRIPT, &port.to_string(), &seconds];
        let command = tools::command("python3", words).expect("python3");
        let log = dir.join("line.log");
        let mut process = host.spawn(command, &log).expect("it starts");
        process
            .wait_ready(Duration::from_secs(20), |p| p.log().contains("ready"))
            .expect("it is ready");
        Self(process)
    }
}
