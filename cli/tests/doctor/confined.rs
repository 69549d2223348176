//! A daemon that has kept what it does not need.

use uvs_lab::{Mode, Options};

use crate::doctor_lab::DoctorLab;
use crate::stand::uvs;

#[test]
fn a_daemon_whose_system_calls_are_not_filtered() {
    let doctor_lab = DoctorLab::new(Mode::Dr, Options::default());
    let daemon = doctor_lab.lab.start_daemon_with(uvs(), "--seccomp off");
    let daemon = daemon.expect("uvs runs");
    let told = doctor_lab.ask(&doctor_lab.lab.director, "");
    let finding = told.of("confinement").expect("a finding");
    assert!(finding.command.ends_with("--seccomp on"), "{:#}", told.json);
    daemon.stop().expect("it ends well");
    let daemon = doctor_lab.lab.start_daemon(uvs()).expect("uvs runs");
    let told = doctor_lab.ask(&doctor_lab.lab.director, "");
    assert!(told.of("confinement").is_none(), "{:#}", told.json);
    daemon.stop().expect("it ends well");
}
