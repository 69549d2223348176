//! Generic netlink's controller: what the family "IPVS" is called by number, and what it can do
//! (linux/genetlink.h; `ctrl_fill_info` of net/netlink/genetlink.c).

use uvs_ipvs_carried::{FAMILY, NAME};

use crate::attribute::Attributes;

/// CTRL_CMD_NEWFAMILY, with the version that the kernel answers with.
const NEW_FAMILY: [u8; 4] = [1, 2, 0, 0];

/// The family's version.
pub const VERSION: u8 = 1;

/// CTRL_ATTR_*.
mod kind {
    pub(super) const ID: u16 = 1;
    pub(super) const NAME: u16 = 2;
    pub(super) const VERSION: u16 = 3;
    pub(super) const HEADER_SIZE: u16 = 4;
    pub(super) const HIGHEST_ATTRIBUTE: u16 = 5;
    pub(super) const OPERATIONS: u16 = 6;
    pub(super) const OPERATION_ID: u16 = 1;
    pub(super) const OPERATION_FLAGS: u16 = 2;
}

/// IPVS_CMD_ATTR_MAX.
const HIGHEST_ATTRIBUTE: u32 = 6;
// GENL_ADMIN_PERM, GENL_CMD_CAP_DO, GENL_CMD_CAP_DUMP and GENL_CMD_CAP_HASPOL.
const ADMIN: u32 = 1;
const DO: u32 = 2;
const DUMP: u32 = 4;
const POLICY: u32 = 8;

/// The controller's answer: header and attributes.
pub fn described() -> Vec<u8> {
    let commands = (1..=12).chain([13, 15, 16, 17]);
    let operations = commands
        .zip(1..)
        .fold(Attributes::new(), |made, (command, place)| {
            let can = match command {
                4 => DO | DUMP,
                8 | 11 => DUMP,
                _ => DO,
            };
            let operation = Attributes::new()
                .u32(kind::OPERATION_ID, command)
                .u32(kind::OPERATION_FLAGS, ADMIN | can | POLICY);
            made.nest(place, &operation)
        });
    let attributes = Attributes::new()
        .text(kind::NAME, NAME)
        .u16(kind::ID, FAMILY)
        .u32(kind::VERSION, u32::from(VERSION))
        .u32(kind::HEADER_SIZE, 0)
        .u32(kind::HIGHEST_ATTRIBUTE, HIGHEST_ATTRIBUTE)
        .nest(kind::OPERATIONS, &operations);
    [&NEW_FAMILY[..], &attributes.to_bytes()].concat()
}
