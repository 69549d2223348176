//! Small words of a trace: masks, modes, plurals.

use std::net::Ipv4Addr;

use uvs_core::service::Forwarding;

/// A netmask as it is written.
pub(super) fn mask(bits: u32) -> String {
    Ipv4Addr::from(bits).to_string()
}

/// A mode by the name that the documentation has for it, and by ipvsadm's.
pub(super) fn mode(name: &str) -> String {
    let mut rows = Forwarding::ALL.iter().map(|method| method.def());
    match rows.find(|row| row.listed == name) {
        Some(row) => format!("{} (ipvsadm {})", row.title, row.flag()),
        None if name == "Addresses" => "ICMP error, translated".to_owned(),
        None => name.to_owned(),
    }
}

/// A number of things.
pub(super) fn plural(n: usize, noun: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_documentation() {
        assert_eq!(mask(0xffff_ff00), "255.255.255.0");
        assert_eq!(mode("Masq"), "NAT (ipvsadm -m)");
        assert_eq!(mode("FullNat"), "FULLNAT (ipvsadm --fullnat)");
        assert_eq!(
            (plural(1, "frame"), plural(2, "frame")),
            ("1 frame".to_owned(), "2 frames".to_owned())
        );
    }
}
