//! SIP (RFC 3261), of which only a message's Call-ID is read. After `get_callid` of `net/netfilter/ipvs/ip_vs_pe_sip.c` and
//! `callid_len` of `net/netfilter/nf_conntrack_sip.c`.

/// The longest Call-ID that is of use, bytes (`IP_VS_PEDATA_MAXLEN`).
pub const CALL_ID_MAX: usize = 255;

/// The Call-ID of a message, a request or a response: letters, digits and signs of ASCII, without blanks.
///
/// `None` where no header of the message has one that is a `callid` (RFC 3261 §25.1) of at most [`CALL_ID_MAX`] bytes.
pub fn call_id(message: &[u8]) -> Option<&str> {
    let mut rest = message;
    loop {
        rest = behind_line(rest)?;
        // An empty line ends the headers.
        if matches!(rest, [] | [b'\r' | b'\n', ..]) {
            return None;
        }
        let id = value(rest).and_then(whole_call_id);
        if id.is_some() {
            return id;
        }
    }
}

/// What is behind the line at the beginning: it ends with CRLF, or, by RFC 2543, with CR or LF.
fn behind_line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|b| matches!(b, b'\r' | b'\n'))?;
    match &bytes[end..] {
        [b'\r', b'\n', rest @ ..] | [_, rest @ ..] => Some(rest),
        [] => None,
    }
}

/// The value of a Call-ID header at the beginning, and all behind it; `None` for another header.
fn value(line: &[u8]) -> Option<&[u8]> {
    /// Its name and its compact form (RFC 3261 §20.8), in lower case.
    const NAMES: [&[u8]; 2] = [b"call-id", b"i"];
    let named = NAMES.iter().find_map(|name| {
        let (begin, rest) = line.split_at_checked(name.len())?;
        let rest = begin
            .eq_ignore_ascii_case(name)
            .then(|| without_blanks(rest))?;
        rest.strip_prefix(b":")
    });
    let value = without_blanks(named?);
    // It may go on in the next line, which then begins with a blank (§7.3.1).
    match behind_line(value) {
        Some(next @ [b' ' | b'\t', ..]) if matches!(value, [b'\r' | b'\n', ..]) => {
            Some(without_blanks(next))
        }
        _ => Some(value),
    }
}

fn without_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|b| matches!(b, b' ' | b'\t'));
    &bytes[blanks.count()..]
}

/// The `callid` at the beginning, which is all that its line has.
fn whole_call_id(value: &[u8]) -> Option<&str> {
    let word = |bytes: &[u8]| bytes.iter().take_while(|b| is_of_word(**b)).count();
    let local = word(value);
    let len = match &value[local..] {
        [b'@', host @ ..] if word(host) > 0 => local + 1 + word(host),
        _ => local,
    };
    let (id, rest) = value.split_at(len);
    let ends = matches!(without_blanks(rest), [b'\r' | b'\n', ..]);
    let id = std::str::from_utf8(id).ok()?;
    (local > 0 && len <= CALL_ID_MAX && ends).then_some(id)
}

/// The characters of a `word` (RFC 3261 §25.1).
const fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        )
        || matches!(
            byte,
            b'(' | b')'
                | b'<'
                | b'>'
                | b':'
                | b'\\'
                | b'"'
                | b'/'
                | b'['
                | b']'
                | b'?'
                | b'{'
                | b'}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REQUEST: &str = "INVITE sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.10:5060\r\nCall-ID: a84b4c76e66710@pc33.example.com\r\nCSeq: 1 INVITE\r\n\r\n";

    fn with(header: &str) -> String {
        format!("SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n{header}\r\nVia: x\r\n\r\n")
    }

    #[test]
    fn a_requests_and_a_responses_call_is_read() {
        assert_eq!(
            call_id(REQUEST.as_bytes()),
            Some("a84b4c76e66710@pc33.example.com")
        );
        for header in [
            "Call-ID: x1@h",
            "call-id:x1@h",
            "CALL-ID \t:  x1@h",
            "i: x1@h",
            "I:x1@h",
            "Call-ID:\r\n x1@h",
            "Call-ID: x1@h  ",
        ] {
            assert_eq!(call_id(with(header).as_bytes()), Some("x1@h"), "{header:?}");
        }
        let signs = "-.!%*_+`'~()<>:\\\"/[]?{}";
        assert_eq!(
            call_id(with(&format!("i: {signs}")).as_bytes()),
            Some(signs)
        );
    }

    #[test]
    fn lines_end_as_older_senders_end_them_too() {
        for end in ["\r", "\n", "\r\n"] {
            let message = REQUEST.replace("\r\n", end);
            assert_eq!(
                call_id(message.as_bytes()),
                Some("a84b4c76e66710@pc33.example.com"),
                "{end:?}"
            );
        }
    }

    #[test]
    fn what_names_no_call_has_none() {
        for header in [
            "Call-ID:",
            "Call-ID: ",
            "Call-ID: @h",
            "Call-ID: x1@",
            "Call-ID: two words",
            "Call-IDs: x1",
            "Call-ID x1",
            "In-Reply-To: x1",
            "ID: x1",
            "Subject: x\r\n Call-ID: x1",
            "Call-ID: x1;tag=2",
        ] {
            assert_eq!(call_id(with(header).as_bytes()), None, "{header:?}");
        }
        assert_eq!(call_id(b""), None);
        assert_eq!(
            call_id(b"Call-ID: x1\r\n"),
            None,
            "the first line is no header"
        );
        assert_eq!(
            call_id(b"BYE x SIP/2.0\r\nCall-ID: x1"),
            None,
            "it may be longer than that"
        );
        assert_eq!(
            call_id(b"BYE x SIP/2.0\r\nVia: x\r\n\r\nCall-ID: x1\r\n"),
            None,
            "that is the body"
        );
    }

    #[test]
    fn a_call_id_ends_at_what_is_of_use() {
        let [longest, longer] = [CALL_ID_MAX, CALL_ID_MAX + 1].map(|n| "x".repeat(n));
        assert_eq!(
            call_id(with(&format!("i: {longest}")).as_bytes()),
            Some(&*longest)
        );
        assert_eq!(call_id(with(&format!("i: {longer}")).as_bytes()), None);
    }

    #[test]
    fn of_two_headers_the_first_sound_one_counts() {
        assert_eq!(
            call_id(with("Call-ID: \r\ni: x1\r\ni: x2").as_bytes()),
            Some("x1")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), header in "(Call-ID|i)[ \t]*:[ \t\r\n]*") {
            call_id(&bytes);
            let behind = [b"x\r\n", header.as_bytes(), &bytes].concat();
            if let Some(id) = call_id(&behind) {
                prop_assert!(!id.is_empty() && id.len() <= CALL_ID_MAX && id.is_ascii());
            }
        }
    }
}
