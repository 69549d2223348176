//! UVS's forwarding modes: one mode, one file, one row in [`BUILTIN`].
//!
//! To add one: CONTRIBUTING.md. Its words are in the rows of its method and its encapsulation, in
//! `core/src/state/service/`.
#![forbid(unsafe_code)]

use uvs_core::mode::ModeDef;

mod dr;
mod fullnat;
mod gre;
mod gue;
mod ipip;
mod nat;
mod outer;

/// Every mode; a connection remembers its mode's place here.
pub static BUILTIN: &[ModeDef] = &[
    dr::DEF,
    nat::DEF,
    fullnat::DEF,
    ipip::DEF,
    gue::DEF,
    gre::DEF,
];
