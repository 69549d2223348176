//! tcpdump as an independent judge of what arrives: checksums, and frames over the MTU.
//!
//! What is judged must have passed a wire: capture with [`crate::Offloads::Off`], where the receiver sees
//! finished checksums and segments as sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::{Process, SOON};
use crate::{Error, Host, Result, tools};

/// How tcpdump says that a TCP, UDP, IP, ICMP or ICMPv6 checksum is bad.
const BAD: [&str; 5] = [
    "(incorrect",
    "bad udp cksum",
    "bad cksum",
    "wrong icmp cksum",
    "bad icmp6 cksum",
];
const ETHERNET_HEADER: usize = 14;

/// A capture that runs; ended when dropped.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
}

/// What was captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Frames, each as tcpdump prints it, on one line.
    pub frames: Vec<String>,
    /// Frames that the capture itself lost.
    pub lost: u64,
}

impl Capture {
    /// Captures what comes in at an interface, by a filter in tcpdump's language. Of super-frames it keeps
    /// the beginning.
    pub fn start(host: &Host, interface: &str, filter: &str, scratch: &Path) -> Result<Self> {
        // Slots of the ring are as long: where super-frames could come, the default makes 256 of 64 MB.
        Self::start_with(host, interface, filter, scratch, "2048")
    }

    /// As [`Capture::start`], but keeps super-frames whole; it loses some of a fast transfer.
    pub fn start_whole(host: &Host, interface: &str, filter: &str, scratch: &Path) -> Result<Self> {
        Self::start_with(host, interface, filter, scratch, "262144")
    }

    fn start_with(
        host: &Host,
        interface: &str,
        filter: &str,
        scratch: &Path,
        bytes: &str,
    ) -> Result<Self> {
        let file = scratch.join(format!("{}-{interface}.pcap", host.role()));
        // As root without -Z it would change to a user that may not write there.
        // Without immediate mode the last frames are lost: they wait in a block of the ring until it is full.
        let words = [
            "-i",
            interface,
            "-Q",
            "in",
            "-n",
            "-Z",
            "root",
            "-B",
            "65536",
            "--immediate-mode",
            "-s",
            bytes,
            "-w",
        ];
        let mut command = tools::command("tcpdump", words)?;
        command.arg(&file).arg(filter);
        let mut process = host.spawn(command, &file.with_extension("log"))?;
        process.wait_ready(SOON, |process| process.log().contains("listening on"))?;
        Ok(Self { process, file })
    }

    /// Ends the capture, which is over once the traffic is, and reads it.
    pub fn finish(mut self, host: &Host) -> Result<Captured> {
        self.settle();
        self.process.signal(Signal::INT)?;
        self.process.wait(SOON)?;
        let mut command = tools::command("tcpdump", ["-e", "-vvv", "-nn", "-Z", "root", "-r"])?;
        command.arg(&self.file);
        let text = host.output(command, SOON)?.stdout;
        Ok(Captured {
            frames: frames(&text),
            lost: lost(&self.process.log())?,
        })
    }
}

impl Capture {
    /// Waits until tcpdump has written what it was given, that is until it writes no more.
    fn settle(&self) {
        const QUIET: Duration = Duration::from_millis(200);
        let size = || fs::metadata(&self.file).map_or(0, |file| file.len());
        let end = Instant::now() + SOON;
        let mut before = None;
        while before != Some(size()) && Instant::now() < end {
            before = Some(size());
            thread::sleep(QUIET);
        }
    }
}

impl Captured {
    /// Frames with a bad checksum, in any header.
    pub fn bad_checksums(&self) -> Vec<&str> {
        self.select(|frame| BAD.iter().any(|words| frame.contains(words)))
    }

    /// Frames that no link of this MTU carries.
    pub fn over_mtu(&self, mtu: usize) -> Vec<&str> {
        self.select(|frame| length(frame).is_some_and(|length| length > mtu + ETHERNET_HEADER))
    }

    /// Frames that have a text.
    pub fn with(&self, text: &str) -> Vec<&str> {
        self.select(|frame| frame.contains(text))
    }

    fn select(&self, wanted: impl Fn(&str) -> bool) -> Vec<&str> {
        self.frames
            .iter()
            .map(String::as_str)
            .filter(|frame| wanted(frame))
            .collect()
    }
}

/// Joins the lines of each frame. Only its first begins with a time: what tcpdump takes for a protocol by a port that was
/// given at random it may print over several lines, not all of them indented.
fn frames(text: &str) -> Vec<String> {
    let mut frames: Vec<String> = Vec::new();
    for line in text.lines() {
        match frames.last_mut() {
            Some(frame) if !begins_with_time(line) => {
                frame.push(' ');
                frame.push_str(line.trim());
            }
            _ => frames.push(line.to_owned()),
        }
    }
    frames
}

/// Whether a line begins as `14:51:17.254213 `.
fn begins_with_time(line: &str) -> bool {
    const TIME: &str = "00:00:00.000000 ";
    let like = |(c, pattern): (u8, u8)| match pattern {
        b'0' => c.is_ascii_digit(),
        other => c == other,
    };
    line.len() >= TIME.len() && line.bytes().zip(TIME.bytes()).all(like)
}

/// The frame's own length, which comes before the packet's.
fn length(frame: &str) -> Option<usize> {
    let (_, rest) = frame.split_once(", length ")?;
    rest.split(':').next()?.parse().ok()
}

fn lost(log: &str) -> Result<u64> {
    let line = log.lines().find(|line| line.contains("dropped by kernel"));
    let count = line
        .and_then(|line| line.split_whitespace().next())
        .and_then(|count| count.parse().ok());
    count.ok_or_else(|| Error::Wrong(format!("tcpdump did not say what it lost:\n{log}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
14:51:17.254213 2e:01:0f:09:70:fa > de:82:0d:6a:d5:7e, ethertype IPv4 (0x0800), length 74: (tos 0x0, ttl 64, id 63730, offset 0, flags [DF], proto TCP (6), length 60)
    10.9.0.1.54054 > 10.9.0.2.80: Flags [S], cksum 0x1443 (incorrect -> 0xc7cc), seq 2803195585, win 64240, options [mss 1460], length 0
14:51:17.254230 de:82:0d:6a:d5:7e > 2e:01:0f:09:70:fa, ethertype IPv4 (0x0800), length 1514: (tos 0x0, ttl 64, id 0, offset 0, flags [DF], proto TCP (6), length 1500)
    10.9.0.2.80 > 10.9.0.1.54054: Flags [.], cksum 0x4f14 (correct), seq 1:1449, ack 1, win 65160, length 1448
14:51:19.295886 de:82:0d:6a:d5:7e > 2e:01:0f:09:70:fa, ethertype IPv4 (0x0800), length 1515: (tos 0x0, ttl 64, id 41724, offset 0, flags [DF], proto UDP (17), length 1501, bad cksum 1 (->2)!)
    10.9.0.2.5201 > 10.9.0.1.52003: [udp sum ok] UDP, length 1473
14:51: what a decoder made of it
";

    #[test]
    fn bad_checksums_and_long_frames_are_found() {
        let captured = Captured {
            frames: frames(TEXT),
            lost: 0,
        };
        assert_eq!(captured.frames.len(), 3);
        assert_eq!(captured.bad_checksums().len(), 2);
        let long = captured.over_mtu(1500);
        assert!(long.len() == 1 && long[0].contains("length 1515"));
        assert_eq!(captured.with("Flags [S]").len(), 1);
    }

    #[test]
    fn what_the_capture_lost_is_read() {
        let log = "3 packets captured\n5 packets received by filter\n2 packets dropped by kernel\n";
        assert_eq!(lost(log).expect("said"), 2);
        assert!(lost("").is_err());
    }
}
