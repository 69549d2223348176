//! Load generators with hard ends, and their results as numbers: wrk for HTTP, iperf3 for bulk.
//!
//! wrk never ends if no connection comes up, so each run has a deadline of its own above the duration.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use crate::process::{Process, SOON};
use crate::{Error, Host, Result, tools};

/// What wrk counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpLoad {
    /// Answers.
    pub requests: u64,
    /// Answers in a second.
    pub per_second: f64,
    /// Failed connects, reads and writes, time-outs, and answers other than 2xx and 3xx.
    pub failed: u64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile in milliseconds.
    pub p99_ms: f64,
}

/// Whether a connection serves one request or as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// HTTP keep-alive.
    Kept,
    /// `Connection: close`.
    PerRequest,
}

/// Runs wrk with one thread.
pub fn wrk(
    client: &Host,
    url: &str,
    seconds: u32,
    count: u32,
    connections: Connections,
) -> Result<HttpLoad> {
    let (duration, count) = (format!("{seconds}s"), count.to_string());
    let mut command = tools::command("wrk", ["-t1", "-c", &count, "-d", &duration, "--latency"])?;
    if connections == Connections::PerRequest {
        command.args(["-H", "Connection: close"]);
    }
    command.arg(url);
    let printed = client.output(command, Duration::from_secs(seconds.into()) + SOON)?;
    parse_wrk(&printed.stdout)
}

fn parse_wrk(text: &str) -> Result<HttpLoad> {
    let unknown = || Error::Wrong(format!("wrk printed no result:\n{text}"));
    let field = |start: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(start))
            .map(str::trim)
    };
    let summary = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .ok_or_else(unknown)?;
    let requests = summary
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .ok_or_else(unknown)?;
    let socket_errors = field("Socket errors:").unwrap_or("");
    let failed_sockets: u64 = socket_errors
        .split([' ', ','])
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    let failed_answers = field("Non-2xx or 3xx responses:")
        .map_or(Ok(0), str::parse)
        .map_err(|_| unknown())?;
    Ok(HttpLoad {
        requests,
        per_second: field("Requests/sec:")
            .and_then(|n| n.parse().ok())
            .ok_or_else(unknown)?,
        failed: failed_sockets + failed_answers,
        p50_ms: field("50%").and_then(milliseconds).ok_or_else(unknown)?,
        p99_ms: field("99%").and_then(milliseconds).ok_or_else(unknown)?,
    })
}

/// wrk writes `85.00us`, `1.23ms`, `2.00s` or `1.02m`.
fn milliseconds(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let factor = match &text[digits.len()..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        "m" => 60_000.0,
        _ => return None,
    };
    digits.parse::<f64>().ok().map(|number| number * factor)
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    Upload,
    /// The real server.
    Download,
}

/// What iperf3 counted at the receiver.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bulk {
    /// Gigabits a second.
    pub gbit_per_second: f64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
}

/// Starts an iperf3 server. Its control and data connections must reach the same one, so a service for it
/// has one real server.
pub fn iperf3_server(server: &Host, port: u16, log: &Path) -> Result<Process> {
    let port = port.to_string();
    let command = tools::command("iperf3", ["-s", "-p", &port, "--forceflush"])?;
    let mut process = server.spawn(command, log)?;
    process.wait_ready(SOON, |process| process.log().contains("Server listening"))?;
    Ok(process)
}

/// Runs one TCP stream of iperf3 against `vip`.
pub fn iperf3(
    client: &Host,
    vip: impl Into<IpAddr>,
    port: u16,
    seconds: u32,
    direction: Direction,
) -> Result<Bulk> {
    let (vip, port, duration) = (
        vip.into().to_string(),
        port.to_string(),
        seconds.to_string(),
    );
    let words = [
        "-J",
        "-c",
        &vip,
        "-p",
        &port,
        "-t",
        &duration,
        "--connect-timeout",
        "5000",
    ];
    let mut command = tools::command("iperf3", words)?;
    if direction == Direction::Download {
        command.arg("-R");
    }
    let printed = client.output(command, Duration::from_secs(seconds.into()) + SOON)?;
    parse_iperf3(&printed.stdout)
}

fn parse_iperf3(text: &str) -> Result<Bulk> {
    let report: Iperf3 = serde_json::from_str(text)
        .map_err(|error| Error::Wrong(format!("iperf3 printed {error}:\n{text}")))?;
    let received = report.end.sum_received;
    Ok(Bulk {
        gbit_per_second: received.bits_per_second / 1e9,
        bytes: received.bytes,
        retransmits: report.end.sum_sent.retransmits,
    })
}

#[derive(Deserialize)]
struct Iperf3 {
    end: Iperf3End,
}

#[derive(Deserialize)]
struct Iperf3End {
    sum_sent: Iperf3Sum,
    sum_received: Iperf3Sum,
}

#[derive(Deserialize)]
struct Iperf3Sum {
    bytes: u64,
    bits_per_second: f64,
    #[serde(default)]
    retransmits: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 1s test @ http://10.9.0.2/nope
  1 threads and 4 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.53ms    1.31ms  17.38ms   92.74%
    Req/Sec     1.61k   153.46     1.82k    80.00%
  Latency Distribution
     50%  850.00us
     75%    2.79ms
     90%    3.39ms
     99%    8.21ms
  1599 requests in 1.00s, 811.99KB read
  Socket errors: connect 1, read 20, write 300, timeout 4000
  Non-2xx or 3xx responses: 50000
Requests/sec:   1598.69
Transfer/sec:    811.83KB
";

    #[test]
    fn wrk_is_read_with_all_its_failures() {
        let load = parse_wrk(WRK).expect("a result");
        let expected = HttpLoad {
            requests: 1599,
            per_second: 1598.69,
            failed: 54321,
            p50_ms: 0.85,
            p99_ms: 8.21,
        };
        assert_eq!(load, expected);
        assert!(parse_wrk("unable to connect").is_err());
    }

    #[test]
    fn iperf3_is_read() {
        let json = r#"{"end":{"sum_sent":{"bytes":10,"bits_per_second":1.0,"retransmits":7},
            "sum_received":{"bytes":9,"bits_per_second":2.5e9}}}"#;
        let bulk = parse_iperf3(json).expect("a result");
        assert_eq!(
            bulk,
            Bulk {
                gbit_per_second: 2.5,
                bytes: 9,
                retransmits: 7
            }
        );
        assert!(parse_iperf3(r#"{"end":{},"error":"unable to connect"}"#).is_err());
    }
}
