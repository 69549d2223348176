//! UVS's forwarding modes: one mode, one file, one row in [`BUILTIN`].
#![forbid(unsafe_code)]

use uvs_core::mode::Mode;

mod dr;
mod fullnat;
mod gre;
mod gue;
mod ipip;
mod nat;
mod outer;

/// Every mode; a connection remembers its mode's place here.
pub static BUILTIN: &[&dyn Mode] = &[
    &dr::Dr,
    &nat::Nat,
    &fullnat::FullNat,
    &ipip::Ipip,
    &gue::Gue,
    &gre::Gre,
];
