//! Two labs' directors that tell each other of their connections: by a link of their own, and a file for each that says so
//! and has its service, so that there is something to reload and to differ from.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use uvs_lab::{Lab, SERVERS};

/// The link's end at either director, and its address there.
const INTERFACE: &str = "sync0";
const ADDRESSES: [&str; 2] = ["10.255.0.1", "10.255.0.2"];

/// Links the two and writes their files.
pub(crate) fn join(labs: [&Lab; 2], weights: [u32; SERVERS]) -> [PathBuf; 2] {
    let [first, second] = labs.map(|lab| &lab.director);
    let other = second.name();
    first
        .ip(&format!(
            "link add {INTERFACE} type veth peer name {INTERFACE} netns {other}"
        ))
        .expect("a link");
    [0, 1].map(|i| {
        let (lab, here, there) = (labs[i], ADDRESSES[i], ADDRESSES[1 - i]);
        let ip = |line: &str| lab.director.ip(line).expect("set");
        ip(&format!("addr add {here}/24 dev {INTERFACE}"));
        ip(&format!("link set {INTERFACE} up"));
        let key = lab.dir().join("sync.key");
        fs::write(&key, "the secret of both").expect("written");
        let mut text = service(lab, weights);
        for role in ["master", "backup"] {
            let _ = write!(
                text,
                "\n[sync.{role}]\ninterface = \"{INTERFACE}\"\nsyncid = 7\npeers = [\"{there}\"]\nkey_file = \"{}\"\n",
                key.display()
            );
        }
        let file = lab.dir().join("uvs.toml");
        fs::write(&file, text).expect("written");
        file
    })
}

/// The lab's service as a file says it.
fn service(lab: &Lab, weights: [u32; SERVERS]) -> String {
    let plan = &lab.plan;
    let mut text = format!(
        "[[service]]\ntcp = \"{}\"\nscheduler = \"wrr\"\nmode = \"{}\"\n",
        plan.vip, plan.mode
    );
    for (server, weight) in plan.servers.iter().zip(weights) {
        let _ = write!(
            text,
            "\n[[service.server]]\naddress = \"{server}\"\nweight = {weight}\n"
        );
    }
    text
}
