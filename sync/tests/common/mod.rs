//! What one director tells, as the next one reads it.

use uvs_core::peer::Told;
use uvs_core::time::Instant;
use uvs_sync::{Message, Version, Writer, read};

const SYNCID: u8 = 7;

/// What is told, through the bytes of version 1.
pub(crate) fn through_bytes(told: &[Told]) -> Vec<Message> {
    let mut writer = Writer::new(SYNCID, u16::MAX);
    let messages = told.iter().filter_map(Message::of);
    let mut datagrams: Vec<_> = messages
        .filter_map(|message| writer.add(Instant::ZERO, Version::V1, &message))
        .collect();
    datagrams.extend(writer.finish());
    let read = datagrams
        .iter()
        .flat_map(|d| read(d, SYNCID).expect("a datagram"));
    read.map(|message| message.expect("a message")).collect()
}
