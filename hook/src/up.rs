//! Why a frame comes up to the engine: one variant = one metric label = one documented line.

macro_rules! up {
    ($($variant:ident $name:literal $label:literal $meaning:literal)*) => {
        /// Why a frame that is UVS's was not forwarded in the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Up { $(#[doc = $meaning] $variant),* }

        impl Up {
            /// All, in order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The metric label.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),* }
            }

            /// What it means, one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning),* }
            }

            /// What `bpf/layout.h` calls it.
            #[cfg(test)]
            pub(crate) const fn in_c(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

up! {
    Service "SERVICE" "service"
        "It goes to a service, and is of no connection that the kernel knows."
    Known "KNOWN" "known"
        "It is of a connection that the kernel only knows, or of one that has just ended."
    Owned "OWNED" "owned"
        "It goes to an address that UVS owns."
    Server "SERVER" "server"
        "It comes from a real server whose packets of no connection are UVS's as well."
    Icmp "ICMP" "icmp"
        "It is an ICMP error about a packet of UVS's."
    Fragment "FRAGMENT" "fragment"
        "It is a fragment of a datagram of UVS's."
    Syn "SYN" "syn"
        "It opens a connection again, or has SYN together with what does not go with it."
    Options "OPTIONS" "options"
        "Its IP header has options or extension headers."
    Ttl "TTL" "ttl"
        "Its TTL or hop limit ends here."
    TooLarge "TOO_LARGE" "too_large"
        "It is larger than the way allows."
    Stale "STALE" "stale"
        "Its connection's server or the routes have changed since the connection was taken."
    Asked "ASKED" "asked"
        "The engine asked for its connection's frames, such as for a live trace."
    Hop "HOP" "hop"
        "Its next hop's MAC address is not known."
    Arrival "ARRIVAL" "arrival"
        "It came in by another interface than its connection's packets must."
    Window "WINDOW" "window"
        "It would end its connection, but its sequence number is not of that connection."
    Reopen "REOPEN" "reopen"
        "The server answered a FULLNAT connection's SYN with the ACK of an old connection."
    Checksum "CHECKSUM" "checksum"
        "It is a UDP datagram without a checksum, and its addresses are translated."
    Malformed "MALFORMED" "malformed"
        "Its IP or TCP header is not sound."
    Busy "BUSY" "busy"
        "Its connection's state was changed elsewhere in the same instant."
    State "STATE" "state"
        "It would change its connection's state, which this kernel's programs cannot do."
}

#[cfg(test)]
mod tests {
    use super::Up;
    use crate::layout::cell;

    #[test]
    fn labels_are_unique_and_numbers_the_programs() {
        let header = include_str!("../bpf/layout.h");
        for (i, why) in Up::ALL.iter().enumerate() {
            assert_eq!(*why as usize, i);
            let mut later = Up::ALL.iter().skip(i + 1);
            assert!(later.all(|other| other.label() != why.label()));
            let number = i + cell::UP as usize;
            let define = format!("#define UP_{} {number}", why.in_c());
            let mut lines = header.lines();
            assert!(
                lines.any(|l| l == define || l.starts_with(&format!("{define} "))),
                "{define}"
            );
        }
        let defined = header.lines().filter(|l| l.starts_with("#define UP_"));
        assert_eq!(defined.count(), Up::COUNT);
    }
}
