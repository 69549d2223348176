//! Ethernet II without tags (IEEE 802.3).

/// A MAC address.
pub type Mac = [u8; 6];

/// A MAC address as `ip` writes it.
pub fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Every station.
pub const BROADCAST: Mac = [0xff; 6];
/// Bytes of the header.
pub const LEN: usize = 14;

/// What lies behind the header (IANA, "IEEE 802 Numbers"); GRE has the same numbers.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;

    /// That of IPv6, or of IPv4.
    pub const fn of(ipv6: bool) -> u16 {
        if ipv6 { IPV6 } else { IPV4 }
    }
}

header! {
    /// An Ethernet header.
    pub struct Header[LEN], offset;
    /// Whom it is for.
    pub DST => dst, set_dst: Mac = 0;
    /// Who sent it.
    pub SRC => src, set_src: Mac = 6;
    /// What lies behind it, of `ethertype`.
    pub ETHERTYPE => ethertype, set_ethertype: u16 = 12;
}

/// What an Ethernet header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Whom it is for.
    pub dst: Mac,
    /// Who sends it.
    pub src: Mac,
    /// What lies behind it, of [`ethertype`].
    pub ethertype: u16,
}

impl Repr {
    /// Writes it to the beginning of `frame`.
    ///
    /// # Panics
    /// Where that is shorter than [`LEN`].
    pub fn emit(&self, frame: &mut [u8]) {
        let mut header = Header::new_mut(frame);
        header.set_dst(self.dst);
        header.set_src(self.src);
        header.set_ethertype(self.ethertype);
    }
}

/// Whether it is the address of one station: no group's, and not none.
pub fn is_one_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}
