//! Whom a message over generic netlink is for: the kernel, or IPVS (linux/genetlink.h).

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NlaBuffer, NlasIterator,
};

/// GENL_ID_CTRL, the controller.
pub const CONTROLLER: u16 = 0x10;
/// Our number of the family. The kernel deals out numbers from 16 to 1023, the lowest that is free to each
/// module that comes, and has few dozen: this one is none of its own on a host without ip_vs.
pub const FAMILY: u16 = 1000;
/// The family's name.
pub const NAME: &str = "IPVS";

/// CTRL_CMD_GETFAMILY.
const GET_FAMILY: u8 = 3;
/// CTRL_ATTR_FAMILY_ID and CTRL_ATTR_FAMILY_NAME.
const ID_ATTRIBUTE: u16 = 1;
const NAME_ATTRIBUTE: u16 = 2;
/// Bytes of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// Whether the first message of a datagram is IPVS's, or asks the controller for IPVS, by name or by number.
pub fn is_for_ipvs(datagram: &[u8]) -> bool {
    let Ok(message) = NetlinkBuffer::new_checked(datagram) else {
        return false;
    };
    match message.message_type() {
        CONTROLLER => asks_for_ipvs(message.payload()),
        FAMILY => true,
        _ => false,
    }
}

/// Whether a datagram's first message is answered when all goes well: an acknowledgement or a dump is wanted.
pub fn is_answered(datagram: &[u8]) -> bool {
    NetlinkBuffer::new_checked(datagram).is_ok_and(|message| {
        let flags = message.flags();
        let wants = flags & NLM_F_ACK != 0 || flags & NLM_F_DUMP == NLM_F_DUMP;
        flags & NLM_F_REQUEST != 0 && wants
    })
}

fn asks_for_ipvs(payload: &[u8]) -> bool {
    let Some((&[GET_FAMILY, ..], attributes)) = payload.split_first_chunk::<GENERIC_HEADER>()
    else {
        return false;
    };
    let mut all = NlasIterator::new(attributes).map_while(Result::ok);
    all.any(|attribute: NlaBuffer<&[u8]>| {
        let value = attribute.value();
        match attribute.kind() {
            ID_ATTRIBUTE => value.first_chunk().copied().map(u16::from_ne_bytes) == Some(FAMILY),
            NAME_ATTRIBUTE => value.split(|byte| *byte == 0).next() == Some(NAME.as_bytes()),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of ipvsadm's: length, type, flags REQUEST and ACK, sequence, port; then what is asked.
    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).expect("short");
        [
            &length.to_ne_bytes()[..],
            &kind.to_ne_bytes(),
            &5u16.to_ne_bytes(),
            &[7, 0, 0, 0, 1, 2, 3, 4],
            payload,
        ]
        .concat()
    }

    const FOR_IPVS: &[u8] = b"\x03\x01\0\0\x09\0\x02\0IPVS\0\0\0\0";

    #[test]
    fn only_what_asks_for_ipvs_is_for_ipvs() {
        let by_number = [
            &[3, 1, 0, 0, 6, 0, 1, 0],
            &FAMILY.to_ne_bytes()[..],
            &[0, 0],
        ]
        .concat();
        for (kind, payload, ours) in [
            (CONTROLLER, FOR_IPVS, true),
            (CONTROLLER, &by_number, true),
            (FAMILY, b"\x0f\x01\0\0", true),
            (CONTROLLER, b"\x03\x01\0\0\x0a\0\x02\0nl802\0\0\0", false),
            (CONTROLLER, b"\x03\x01\0\0\x0a\0\x02\0IPVSX\0\0\0", false),
            (CONTROLLER, b"\x04\x01\0\0\x09\0\x02\0IPVS\0\0\0\0", false),
            (CONTROLLER, b"\x03\x01\0\0", false),
            (0x1c, b"\x0f\x01\0\0", false),
        ] {
            assert_eq!(
                is_for_ipvs(&message(kind, payload)),
                ours,
                "{kind} {payload:x?}"
            );
        }
    }

    #[test]
    fn a_message_that_is_cut_off_is_the_kernels() {
        let whole = message(CONTROLLER, FOR_IPVS);
        assert!(is_for_ipvs(&whole) && is_answered(&whole));
        for length in 0..whole.len() {
            let cut = &whole[..length];
            assert!(!is_for_ipvs(cut) && !is_answered(cut), "{length} bytes");
        }
    }

    #[test]
    fn a_message_without_ack_or_dump_is_not_waited_for() {
        let mut message = message(FAMILY, b"\x0f\x01\0\0");
        message[6] = 1;
        assert!(!is_answered(&message));
        (message[6], message[7]) = (1, 3);
        assert!(is_answered(&message));
    }
}
