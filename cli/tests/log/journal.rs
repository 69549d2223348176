//! Where standard error is the journal's, entries have fields; a journal that is stuck holds up nobody.

use std::io::pipe;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use uvs_lab::{Mode, Options};

use crate::load::Load;
use crate::own::Own;
use crate::stand::{PATIENCE, lab};

/// The journal's directory is the test's, for this daemon alone.
fn script(dir: &std::path::Path) -> String {
    format!(
        "exec unshare -m sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
         mount --bind {} /run/systemd/journal && \
         JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2) exec $RUN'",
        dir.display()
    )
}

#[test]
fn entries_have_fields_and_a_journal_that_is_stuck_holds_up_nobody() {
    let (lab, shell) = lab(Mode::Nat, Options::default());
    let dir = lab.dir().join("journal");
    std::fs::create_dir(&dir).expect("a directory");
    let journal = UnixDatagram::bind(dir.join("socket")).expect("a socket");
    journal.set_read_timeout(Some(PATIENCE)).expect("set");
    let (_stderr, writer) = pipe().expect("a pipe");
    let own = Own::start(&lab, &shell, &script(&dir), Stdio::from(writer));
    let mut entry = vec![0; 1 << 20];
    let began = loop {
        let length = journal.recv(&mut entry).expect("an entry comes");
        let entry = String::from_utf8_lossy(&entry[..length]).into_owned();
        if entry.contains("\nMESSAGE=uvs ") {
            break entry;
        }
    };
    for field in [
        "PRIORITY=6\nSYSLOG_IDENTIFIER=uvs\nMESSAGE=uvs ",
        "\nTARGET=uvs_forwarder::daemon::start\n",
        "\nUVS_SERVICES=0\n",
        "\nCODE_FILE=forwarder/src/daemon/start.rs\nCODE_LINE=",
    ] {
        assert!(began.contains(field), "{field}: {began}");
    }
    own.serve();
    // From here on nobody reads.
    Load::beside(&lab, || {
        let mut before = (0, 0);
        while own.losses().0 == 0 {
            own.shout();
            let losses = own.losses();
            assert_eq!(losses.1, 0, "{before:?}");
            before = losses;
        }
    });
    own.end();
}
