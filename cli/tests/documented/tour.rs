//! README.md: what the demo does and prints, the quick start, and the trace.

use uvs_lab::{Mode, Options, VipOwner, install};

use crate::desk::{Desk, Reader, lab};
use crate::looking::traced;
use crate::shape;
use crate::stand::{shares, uvs};

#[test]
pub(crate) fn the_readme() {
    let mut page = Reader::open("README.md");
    demo(&mut page);
    quick_start(&mut page);
    let nat = lab(Mode::Nat, Options::default());
    let desk = Desk::serving(&nat);
    desk.fill();
    let trace = page.section("Why did this packet go there?");
    trace.iter().for_each(|typed| traced(&desk, typed));
    page.close();
}

/// Its commands one by one, and what the demo itself prints of them.
fn demo(page: &mut Reader) {
    let nat = lab(Mode::Nat, Options::default());
    nat.content("6M", 6 << 20).expect("made");
    let mut desk = Desk::at(&nat);
    for mut typed in page.section("See it in a minute") {
        // The demo's own words follow.
        typed.shown.clear();
        if typed.begins("uvs run ") {
            desk.starts(&typed);
        } else {
            desk.types(&typed);
        }
    }
    let printed = desk.must("UVS_WORKERS=1 uvs lab demo --mode nat");
    let shown = page.page.block("== nat: ");
    let of_all = shown.iter().position(|line| line.starts_with("== summary"));
    let shown = shown[..of_all.expect("a summary")]
        .iter()
        .map(String::as_str);
    let shown = ["…"].into_iter().chain(shown);
    let wrong = shape::difference(shown, &printed);
    assert_eq!(wrong, None, "what README.md shows of the demo:\n{printed}");
}

fn quick_start(page: &mut Reader) {
    let options = Options {
        vip: VipOwner::Nobody,
        ..Options::default()
    };
    let dr = lab(Mode::Dr, options);
    let mut desk = Desk::at(&dr);
    // What `make build && install` does, and no other `ipvsadm` than the link that the page makes.
    install::program(uvs(), &desk.host_file("/usr/local/bin/uvs")).expect("installed");
    desk.without_link();
    for typed in page.section("Quick start") {
        if typed.begins("uvs run ") {
            desk.starts(&typed);
        } else if typed.command.contains("--laddr") {
            // The second of the page's two services on one address.
            assert_eq!(desk.answers(40), shares(30, 10));
            desk.must("ipvsadm -C");
            desk.types(&typed);
        } else {
            desk.types(&typed);
        }
    }
    assert_eq!(desk.answers(4), shares(4, 0));
}
