//! Changes have a memory: each is a line of the log with who made it, the running table is compared with the file, a reload
//! says what it takes back, one on trial goes back by itself, and there are verbs beside ipvsadm's. Needs root, or `make
//! test`.

#[path = "../support/stand.rs"]
mod stand;

mod audit;
mod reload;
mod trial;
mod verbs;

use std::fs;
use std::path::{Path, PathBuf};

use uvs_lab::shell::{Ended, Shell};
use uvs_lab::{Daemon, Lab, Mode, Options};

use stand::{lab, run, uvs};

/// The tutorial's DR set-up with these weights, and what else the service says.
fn write(file: &Path, weights: [u32; 2], more: &str) {
    let [rs1, rs2] = weights;
    let text = format!(
        "interfaces = [\"eth0\"]\n\n[[service]]\ntcp = \"192.168.0.38:80\"\nscheduler = \"wrr\"\nmode = \"dr\"\n{more}\n\
         [[service.server]]\naddress = \"192.168.0.18\"\nweight = {rs1}\n\n\
         [[service.server]]\naddress = \"192.168.0.28\"\nweight = {rs2}\n"
    );
    fs::write(file, text).expect("written");
}

/// A lab whose daemon has that file with the weights 3 and 1.
struct Configured {
    lab: Lab,
    shell: Shell,
    file: PathBuf,
}

impl Configured {
    fn new(more: &str) -> Self {
        let (lab, shell) = lab(Mode::Dr, Options::default());
        let file = lab.dir().join("uvs.toml");
        write(&file, [3, 1], more);
        Self { lab, shell, file }
    }

    fn daemon(&self) -> Daemon<'_> {
        let line = format!("run --config {}", self.file.display());
        Daemon::start_with(&self.lab, uvs(), &line).expect("uvs runs")
    }

    fn run(&self, script: &str) -> Ended {
        run(&self.lab, &self.shell, script)
    }

    /// A command that succeeds, and what it prints.
    fn succeed(&self, script: &str) -> String {
        let ended = self.run(script);
        assert_eq!(ended.code, Some(0), "{script}: {ended:?}");
        ended.stdout
    }

    /// The weights of the two servers, as ipvsadm lists them.
    fn weights(&self) -> [u32; 2] {
        let listed = self.succeed("ipvsadm -ln");
        ["192.168.0.18:80", "192.168.0.28:80"].map(|server| {
            let line = listed.lines().find(|line| line.contains(server));
            let weight = line.and_then(|line| line.split_whitespace().nth(3));
            let weight = weight.and_then(|weight| weight.parse().ok());
            weight.unwrap_or_else(|| panic!("{server} in {listed}"))
        })
    }
}
