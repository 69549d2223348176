//! `uvs trace`: why a packet goes where it goes. One made up from a flow, those of a capture file, or real
//! ones while they pass.

mod live;
mod offline;
mod pcap;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use serde::Serialize;
use uvs_control::protocol::ask;
use uvs_control::trace::flow::{self, Call, Content, Flags};
use uvs_control::trace::{MAX_FRAMES, Subject, Traced, TracedFrames};
use uvs_core::flow::Endpoint;

use super::{daemon, output};

/// A flow, a file, or a filter.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["client", "pcap", "live"])))]
pub(crate) struct Args {
    /// The client, ADDRESS:PORT; an IPv6 address in brackets
    #[arg(requires = "vip", value_parser = flow::endpoint)]
    client: Option<Endpoint>,
    /// Where its packet goes, of the client's family
    #[arg(value_parser = flow::endpoint)]
    vip: Option<Endpoint>,
    /// The packet's protocol
    #[arg(long, value_enum, default_value = "tcp", conflicts_with_all = ["pcap", "live"])]
    proto: Proto,
    /// Its TCP flags, with commas between them
    #[arg(long, default_value = "syn", conflicts_with_all = ["pcap", "live"])]
    flags: Flags,
    /// With --proto udp: a message of SIP, of the call with this Call-ID
    #[arg(long, value_name = "ID", conflicts_with_all = ["pcap", "live"])]
    call_id: Option<Call>,
    /// The packets of a capture file (tcpdump -w FILE)
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Real packets of the running daemon: `any`, or e.g. `tcp from 10.0.0.5 to :80`
    #[arg(long, value_name = "FILTER")]
    live: Option<String>,
    /// Use this configuration instead of a daemon, as if UVS had just started with it
    #[arg(long, value_name = "FILE", conflicts_with = "live")]
    config: Option<PathBuf>,
    /// At most this many packets [default: 10 with --live, else all]
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u32).range(1..=MAX_FRAMES as i64))]
    count: Option<u32>,
    /// With --live: at most this many seconds
    #[arg(long = "for", value_name = "SECONDS", default_value = "10", requires = "live",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// How to show it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

/// The protocols that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proto {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

/// The ways of showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Decision by decision, for people
    Text,
    /// Everything, for programs
    Json,
}

/// Frames with all that was decided about them.
#[derive(Serialize)]
pub(super) struct Report {
    /// The interfaces' names, in the order of their ports.
    interfaces: Vec<String>,
    frames: Vec<Traced>,
}

impl From<TracedFrames> for Report {
    fn from(traced: TracedFrames) -> Self {
        Self {
            interfaces: traced.interfaces,
            frames: traced.frames,
        }
    }
}

/// Asks and prints.
pub(crate) fn main(args: &Args) -> ExitCode {
    if let Some(filter) = &args.live {
        return live::main(filter, args.count, args.seconds, args.output);
    }
    let subjects = match subjects(args) {
        Ok(subjects) => subjects,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(super::USAGE);
        }
    };
    let report = match &args.config {
        Some(file) => offline::trace(file, &subjects),
        None => daemon::ask(ask::Trace(subjects)).map(Report::from),
    };
    match report {
        Ok(report) => output::print(&render(&report, args.output)),
        Err(code) => code,
    }
}

fn subjects(args: &Args) -> Result<Vec<Subject>, String> {
    let limit = args.count.map_or(MAX_FRAMES, |n| n as usize);
    match (&args.pcap, args.client, args.vip) {
        (Some(file), ..) => pcap::read(file, limit),
        (None, Some(client), Some(vip)) if client.addr.family() != vip.addr.family() => Err(
            format!("{client} and {vip} are of two address families; a packet is of one"),
        ),
        (None, Some(client), Some(vip)) => {
            let frame = flow::frame(&content(args)?, client, vip);
            Ok(vec![Subject::new(0, &frame)])
        }
        (None, ..) => Err("name a client and a VIP, each ADDRESS:PORT".to_owned()),
    }
}

fn content(args: &Args) -> Result<Content, String> {
    match (args.proto, &args.call_id) {
        (Proto::Udp, call) => Ok(Content::Udp(call.clone())),
        (Proto::Tcp | Proto::Sctp, Some(_)) => {
            Err("--call-id is of a datagram: add --proto udp".to_owned())
        }
        (Proto::Tcp, None) => Ok(Content::Tcp(args.flags)),
        (Proto::Sctp, None) => Ok(Content::Sctp),
    }
}

fn render(report: &Report, format: Format) -> String {
    match format {
        Format::Text => text::render(report),
        Format::Json => output::json(report),
    }
}
