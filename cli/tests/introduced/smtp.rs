//! Postfix, which speaks first: it knows the client's address and port before it says a word.

use std::io::{BufRead, BufReader, Write};

use uvs_lab::{Families, Mode, Options};

use crate::peers::{POSTFIX, postfix};
use crate::stand::{eventually, lab, uvs};
use crate::{connect, serve};

#[test]
fn postfix_knows_who_comes() {
    let (lab, _) = lab(Mode::FullNat, Options::default());
    let Some(postfix) = postfix(&lab) else { return };
    let daemon = lab.start_daemon(uvs()).expect("uvs runs");
    for (port, version) in [(25, "v1"), (26, "v2")] {
        let words = format!("--proxy-protocol {version}");
        let vip = serve(&lab, &daemon, Families::V4, (port, POSTFIX), &words);
        let (mut stream, own) = connect(&lab.client, vip);
        let mut said = BufReader::new(stream.try_clone().expect("cloned")).lines();
        let mut next = || said.next().expect("a line").expect("read");
        assert_eq!(next(), "220 mail.example ESMTP Postfix", "{version}");
        stream.write_all(b"QUIT\r\n").expect("sent");
        assert_eq!(next(), "221 2.0.0 Bye", "{version}");
        let named = format!(" connect from unknown[{}]:{}\n", own.ip(), own.port());
        eventually("Postfix has logged the client", || {
            postfix.access_log().contains(&named)
        });
    }
    daemon.stop().expect("it ends well");
}
