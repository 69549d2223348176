//! The kernel's datagrams, as recorded: read, they mean what was recorded; written again, they are the same bytes.

use serde_json::Value;
use uvs_core::flow::Endpoint;
use uvs_core::time::Instant;
use uvs_sync::{Message, Refused, Version, Writer, read};

fn recorded() -> Value {
    serde_json::from_str(include_str!("golden/sync.json")).expect("the recording is JSON")
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    let byte = |d: &[u8]| u8::from_str_radix(std::str::from_utf8(d).expect("ASCII"), 16);
    digits.map(|d| byte(d).expect("a byte")).collect()
}

/// All datagrams of a case: those that the director sent and those that it got.
fn datagrams(case: &Value, sent: bool) -> Vec<(Vec<u8>, &Value)> {
    let steps = case["steps"].as_array().expect("steps").iter();
    let found = steps.flat_map(|step| match sent {
        true => step["out"].as_array().map_or(&[][..], Vec::as_slice),
        false => std::slice::from_ref(step),
    });
    let with_payload = found.filter_map(|d| Some((bytes(d["payload"].as_str()?), &d["decoded"])));
    with_payload.collect()
}

fn endpoint(text: &Value) -> Endpoint {
    let address: std::net::SocketAddr = text
        .as_str()
        .and_then(|t| t.parse().ok())
        .expect("an address with a port");
    Endpoint::new(address.ip().into(), address.port())
}

fn number(value: &Value) -> u32 {
    match value.as_str() {
        Some(hex) => u32::from_str_radix(hex.trim_start_matches("0x"), 16).expect("hexadecimal"),
        None => u32::try_from(value.as_u64().unwrap_or_default()).expect("32 bits"),
    }
}

#[track_caller]
fn assert_means(message: &Message, decoded: &Value) {
    let sent = (u32::from(message.protocol), u32::from(message.state));
    assert_eq!(
        sent,
        (number(&decoded["protocol"]), number(&decoded["state"])),
        "{decoded}"
    );
    let ends = [&message.client, &message.vip, &message.server];
    for (end, name) in ends.into_iter().zip(["client", "virtual", "dest"]) {
        assert_eq!(*end, endpoint(&decoded[name]), "{name} of {decoded}");
    }
    let told = number(&decoded["flags"]) & uvs_sync::message::flag::BACKUP;
    assert_eq!(message.flags, told, "{decoded}");
    assert_eq!(message.mark, number(&decoded["fwmark"]), "{decoded}");
    assert_eq!(message.timeout, number(&decoded["timeout"]), "{decoded}");
}

#[test]
fn what_the_kernel_sent_is_read_as_it_was_meant_and_written_alike() {
    let book = recorded();
    let mut count = 0;
    for case in book["cases"].as_array().expect("cases") {
        for (datagram, decoded) in datagrams(case, true) {
            let meant = decoded["conns"].as_array().expect("messages");
            let syncid = datagram[1];
            let messages: Result<Vec<Message>, Refused> =
                read(&datagram, syncid).expect("a datagram").collect();
            let messages = messages.expect("messages");
            assert_eq!(messages.len(), meant.len(), "{}", case["name"]);
            let mut writer = Writer::new(syncid, 1472);
            let version = match decoded["version"].as_u64() {
                Some(0) => Version::V0,
                _ => Version::V1,
            };
            for (message, meant) in messages.iter().zip(meant) {
                assert_means(message, meant);
                // A backup takes up less than was told; the writer is given all of it.
                let told = Message {
                    flags: number(&meant["flags"]),
                    ..message.clone()
                };
                assert_eq!(writer.add(Instant::ZERO, version, &told), None);
            }
            assert_eq!(
                writer.finish().as_deref(),
                Some(&*datagram),
                "{}",
                case["name"]
            );
            count += meant.len();
        }
    }
    assert!(count > 60, "the recording has {count} messages");
}

/// What the kernel took of each datagram, by the client's ports that were in its table afterwards.
#[test]
fn what_a_backup_takes_is_what_the_kernel_took() {
    let book = recorded();
    let backups = [
        "backup_tcp",
        "backup_no_service",
        "backup_ipv6",
        "backup_filter",
        "backup_odd",
    ];
    let cases = book["cases"].as_array().expect("cases").iter();
    let mut taken = 0;
    for case in cases.filter(|c| backups.iter().any(|name| c["name"] == *name)) {
        for step in case["steps"].as_array().expect("steps") {
            let Some(payload) = step["payload"].as_str() else {
                continue;
            };
            let table = step["conns"].as_array().map_or(&[][..], Vec::as_slice);
            let shown: Vec<&str> = table.iter().filter_map(Value::as_str).collect();
            let datagram = bytes(payload);
            let messages =
                read(&datagram, 7).map(|all| all.filter_map(Result::ok).collect::<Vec<_>>());
            for message in messages.unwrap_or_default() {
                let there = |line: &&&str| line.contains(&format!(" {} ", message.client));
                assert!(
                    shown.iter().any(|l| there(&l)),
                    "{} is not in {shown:?}",
                    message.client
                );
                taken += 1;
            }
            if step["decoded"]["nr_conns"] == 1 && table.is_empty() {
                let none = read(&datagram, 7).map_or(0, |all| all.filter(Result::is_ok).count());
                assert_eq!(none, 0, "{}: {}", case["name"], step["note"]);
            }
        }
    }
    assert!(taken >= 20, "{taken} messages were taken");
}

/// The kernel's own count of what is in the table after the whole case is equal to what was read.
#[test]
fn nothing_is_taken_that_the_kernel_refused() {
    let book = recorded();
    for name in ["backup_filter", "backup_odd"] {
        let mut cases = book["cases"].as_array().expect("cases").iter();
        let case = cases.find(|c| c["name"] == name).expect("the case");
        let mut clients: Vec<Endpoint> = Vec::new();
        for (datagram, _) in datagrams(case, false) {
            if let Ok(messages) = read(&datagram, 7) {
                clients.extend(messages.filter_map(Result::ok).map(|m| m.client));
            }
        }
        let steps = case["steps"].as_array().expect("steps").iter();
        let last = steps
            .rev()
            .find_map(|s| s["conns"].as_array())
            .expect("a table");
        assert_eq!(
            clients.len(),
            last.len(),
            "{name}: {clients:?} against {last:?}"
        );
    }
}
