//! IPVS's socket options and its files under /proc/net, as programs ask for them through the library.

mod common;

use common::{Memory, answers, hex};
use uvs_control::protocol::Change;
use uvs_core::engine::ConnReport;
use uvs_core::flow::{Addr, Endpoint, Protocol};
use uvs_core::service::{Forwarding, ServerSpec, ServiceKey, ServiceSpec, Tunnel};
use uvs_ipvs_abi::conversation::Conversation;
use uvs_ipvs_carried::{Part, Question};

/// `struct ip_vs_service_user` of ipvsadm -A -t 10.0.1.100:80 -s wrr: protocol, address, port, mark, scheduler,
/// flags, time-out, netmask.
const SERVICE: &str = "06000000 0a000164 00500000 00000000
    77727200000000000000000000000000 00000000 00000000 ffffffff";
/// `struct ip_vs_dest_user`: address, port, method, weight, thresholds.
const SERVER: &str = "0a00020b 00500000 03000000 05000000 09000000 04000000";

fn put(memory: &mut Memory, question: Question<'_>) -> Result<Vec<u8>, i32> {
    let mut all = Vec::new();
    for datagram in answers(memory, &question.to_bytes()) {
        match Part::parse(&datagram).expect("a part") {
            Part::More(data) | Part::Last(data) => all.extend_from_slice(data),
            Part::Refused(errno) => return Err(errno),
        }
    }
    Ok(all)
}

fn set(memory: &mut Memory, name: u32, value: &str) -> Result<(), i32> {
    let value = hex(value);
    let question = Question::Set {
        name,
        value: &value,
    };
    put(memory, question).map(|nothing| assert!(nothing.is_empty()))
}

/// getsockopt with a buffer of `room` bytes that begins with these.
fn get(memory: &mut Memory, name: u32, head: &str, room: usize) -> Result<Vec<u8>, i32> {
    let mut buffer = hex(head);
    buffer.resize(room, 0);
    put(memory, Question::get(name, &buffer))
}

fn key() -> ServiceKey {
    ServiceKey::address(Protocol::Tcp, Endpoint::new(Addr::v4([10, 0, 1, 100]), 80))
}

fn filled() -> Memory {
    let mut memory = Memory::default();
    set(&mut memory, 1154, SERVICE).expect("added");
    set(&mut memory, 1159, &[SERVICE, SERVER].concat()).expect("added");
    memory
}

#[test]
fn services_and_servers_are_added_edited_and_deleted() {
    let mut memory = filled();
    let endpoint = Endpoint::new(Addr::v4([10, 0, 2, 11]), 80);
    let server = ServerSpec {
        weight: 5,
        upper: 9,
        lower: 4,
        ..ServerSpec::new(endpoint, Forwarding::Dr)
    };
    let want = ServiceSpec {
        servers: vec![server],
        ..ServiceSpec::new(key(), "wrr")
    };
    assert_eq!(*memory.table.services()[0], want);
    assert_eq!(set(&mut memory, 1154, SERVICE), Err(17), "EEXIST");
    let heavier = SERVER.replace("05000000", "06000000");
    set(&mut memory, 1161, &[SERVICE, &heavier].concat()).expect("edited");
    assert_eq!(memory.table.services()[0].servers[0].weight, 6);
    set(&mut memory, 1155, &SERVICE.replace("777272", "776c63")).expect("edited");
    assert_eq!(memory.table.services()[0].scheduler, "wlc");
    set(&mut memory, 1160, &[SERVICE, SERVER].concat()).expect("deleted");
    assert_eq!(
        set(&mut memory, 1160, &[SERVICE, SERVER].concat()),
        Err(2),
        "ENOENT"
    );
    set(&mut memory, 1156, SERVICE).expect("deleted");
    assert_eq!(set(&mut memory, 1156, SERVICE), Err(3), "ESRCH");
}

#[test]
fn a_mark_has_tcps_number_as_ipvsadm_gives_it_and_none_is_refused() {
    let mut memory = Memory::default();
    let mark = SERVICE.replace("0a000164 00500000 00000000", "00000000 00000000 07000000");
    set(&mut memory, 1154, &mark).expect("added");
    assert_eq!(
        memory.table.services()[0].key,
        ServiceKey::Mark {
            mark: 7,
            ipv6: false
        }
    );
    // keepalived's.
    assert_eq!(
        set(&mut memory, 1154, &mark.replacen("06", "00", 1)),
        Err(14),
        "EFAULT"
    );
}

#[test]
fn lists_have_the_kernels_layout_and_leave_ipv6_out() {
    let mut memory = filled();
    let v6 = ServiceSpec::new(
        ServiceKey::address(Protocol::Tcp, Endpoint::new(Addr([0x20; 16]), 80)),
        "rr",
    );
    memory.table.apply(&Change::AddService(v6)).expect("added");
    let other_family = ServerSpec {
        tunnel: Tunnel::default(),
        ..ServerSpec::new(Endpoint::new(Addr([0x20; 16]), 80), Forwarding::Tunnel)
    };
    let change = Change::AddServer(key(), other_family);
    memory.table.apply(&change).expect("added");

    assert_eq!(
        get(&mut memory, 1153, "", 12),
        Ok(hex("01020100 00100000 01000000"))
    );
    let stats = "02000000 03000000 04000000 00000000 0000000005000000 0600000000000000
        02000000 03000000 04000000 00000000 06000000 00000000";
    let entry = hex(&[
        "06000000 0a000164 00500000 00000000 77727200000000000000000000000000
        02000000 00000000 ffffffff 02000000",
        stats,
    ]
    .concat());
    let services = get(&mut memory, 1154, "01000000 00000000", 8 + 104);
    assert_eq!(
        services,
        Ok([hex("01000000 00000000"), entry.clone()].concat())
    );
    let which = "06000000 0a000164 00500000 00000000";
    assert_eq!(get(&mut memory, 1155, which, 224), Ok(entry));
    let servers = get(
        &mut memory,
        1156,
        &[which, "02000000 00000000"].concat(),
        24 + 2 * 96,
    );
    let servers = servers.expect("servers");
    assert_eq!(servers[..24], hex(&[which, "02000000 00000000"].concat()));
    assert_eq!(servers[24..120], [0; 96], "IPv6 is not said here");
    let server = hex(&[
        "0a00020b 00500000 03000000 05000000 09000000 04000000 07000000 08000000 09000000 00000000",
        stats,
    ]
    .concat());
    assert_eq!(servers[120..], server);
    // What does not fit is refused, and what is not there.
    assert_eq!(
        get(&mut memory, 1154, "01000000 00000000", 100),
        Err(22),
        "EINVAL"
    );
    assert_eq!(
        get(&mut memory, 1155, "06000000 0a000165 00500000", 224),
        Err(3),
        "ESRCH"
    );
}

#[test]
fn times_daemons_and_the_rest_are_answered() {
    let mut memory = filled();
    set(&mut memory, 1162, "64000000 00000000 1e000000").expect("set");
    assert_eq!(
        get(&mut memory, 1158, "", 12),
        Ok(hex("64000000 78000000 1e000000"))
    );
    assert_eq!(
        get(&mut memory, 1159, "", 104),
        Ok(vec![0; 48]),
        "no sync daemon runs"
    );
    let daemon = ["02000000", "6c6f", &"00".repeat(14), "07000000"].concat();
    assert_eq!(set(&mut memory, 1164, &daemon), Err(3), "ESRCH");
    set(&mut memory, 1163, &daemon).expect("started");
    assert_eq!(set(&mut memory, 1163, &daemon), Err(17), "EEXIST");
    let both = [&"00".repeat(24), &daemon[..]].concat();
    assert_eq!(get(&mut memory, 1159, "", 104), Ok(hex(&both)));
    set(&mut memory, 1164, &daemon).expect("stopped");
    let version = get(&mut memory, 1152, "", 64).expect("a text");
    assert_eq!(version, b"IP Virtual Server version 1.2.1 (size=4096)\0");
    let none = ["00".repeat(40), "ffffffff".to_owned()].concat();
    set(&mut memory, 1167, &none).expect("zeroed");
    set(&mut memory, 1167, SERVICE).expect("zeroed");
    assert_eq!(memory.zeroed, [None, Some(key())]);
    set(&mut memory, 1157, "").expect("flushed");
    assert!(memory.table.services().is_empty());
}

#[test]
fn a_value_of_another_length_is_refused() {
    let mut memory = Memory::default();
    for (name, whole) in [
        (1154, 44),
        (1159, 68),
        (1162, 12),
        (1163, 24),
        (1157, 0),
        (1158, 0),
    ] {
        for length in (0..=80).filter(|length| *length != whole || name == 1158) {
            let value = "00".repeat(length);
            assert_eq!(
                set(&mut memory, name, &value),
                Err(22),
                "{name}: {length} bytes"
            );
        }
    }
}

#[test]
fn connections_are_written_as_the_kernel_writes_them() {
    let at = |addr, port| Endpoint::new(Addr::v4(addr), port);
    let tcp = ConnReport {
        service: key(),
        protocol: Some(Protocol::Tcp),
        client: at([192, 168, 1, 2], 40000),
        vip: at([10, 0, 1, 100], 80),
        server: at([10, 0, 2, 11], 8080),
        local: None,
        state: "ESTABLISHED",
        expires: 899,
        idle_ns: 0,
        sequence: None,
        call: None,
        in_kernel: false,
    };
    let template = ConnReport {
        protocol: None,
        client: at([192, 168, 1, 0], 0),
        vip: at([0, 0, 0, 1], 0),
        state: "NONE",
        expires: 5,
        ..tcp.clone()
    };
    let v6 = Endpoint::new(
        Addr([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
        53,
    );
    let udp = ConnReport {
        protocol: Some(Protocol::Udp),
        client: v6,
        vip: v6,
        server: v6,
        state: "UDP",
        ..tcp.clone()
    };
    let mut memory = Memory {
        connections: vec![tcp, template, udp],
        ..Memory::default()
    };
    let text = put(&mut memory, Question::File { place: 1 }).expect("a file");
    let group = "2001:0db8:0000:0000:0000:0000:0000:0001 0035";
    let want = format!(
        "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
         TCP C0A80102 9C40 0A000164 0050 0A00020B 1F90 ESTABLISHED     899\n\
         IP  C0A80100 0000 00000001 0000 0A00020B 1F90 NONE              5\n\
         UDP {group} {group} {group} UDP             899\n"
    );
    assert_eq!(String::from_utf8_lossy(&text), want);
}

#[test]
fn the_other_files_are_there_and_no_others() {
    let mut memory = filled();
    let text = put(&mut memory, Question::File { place: 0 }).expect("a file");
    let want = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  \
        -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n\
        TCP  0A000164:0050 wrr  \n  \
        -> 0A00020B:0050      Route   5      7          8         \n";
    assert_eq!(String::from_utf8_lossy(&text), want);
    let stats = put(&mut memory, Question::File { place: 2 }).expect("a file");
    assert_eq!(stats.iter().filter(|byte| **byte == b'\n').count(), 6);
    assert_eq!(
        put(&mut memory, Question::File { place: 3 }),
        Err(2),
        "ENOENT"
    );
}

#[test]
fn who_is_not_permitted_may_read_the_files_alone() {
    let mut memory = filled();
    let mut told = |question: Question<'_>| {
        let mut conversation = Conversation::new(false);
        conversation.hear(question.to_bytes());
        let answer = conversation
            .answer(&mut memory)
            .expect("an answer")
            .concat();
        matches!(Part::parse(&answer), Some(Part::Last(_)))
    };
    assert!(told(Question::File { place: 0 }));
    assert!(!told(Question::get(1153, &[0; 12])));
    assert!(!told(Question::Set {
        name: 1157,
        value: &[]
    }));
}
