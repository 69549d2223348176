//! Why a connection's frames all come up to the engine: one variant = one metric label = one documented line.

macro_rules! untaken {
    ($($variant:ident $label:literal $meaning:literal)*) => {
        /// Why a connection is not forwarded in the kernel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Untaken { $(#[doc = $meaning] $variant),* }

        impl Untaken {
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
        }
    };
}

untaken! {
    Guard "guard"
        "The hook only tells what is ours: it was asked for no more, or the kernel can do no more."
    Protocol "protocol"
        "It is neither TCP nor UDP."
    Mode "mode"
        "Its mode changes packets in a way that the program does not know (GUE, GRE), or between two address families."
    OnePacket "one_packet"
        "One-packet scheduling: each datagram is scheduled on its own."
    State "state"
        "It is not ESTABLISHED, and the kernel takes no others."
    Way "way"
        "There is no way to its server or its client by a port, or the host itself is one of them."
    Server "server"
        "Its real server was removed, or its VIP is not the director's."
    Watched "watched"
        "A live trace asks for its frames."
    Full "full"
        "The hook's table of connections is full."
    Servers "servers"
        "The hook's table of servers is full."
    Hops "hops"
        "The hook's table of next hops is full."
    Refused "refused"
        "The kernel had no memory for it."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_ordered_by_discriminant() {
        for (i, why) in Untaken::ALL.iter().enumerate() {
            assert_eq!(*why as usize, i);
            let mut later = Untaken::ALL.iter().skip(i + 1);
            assert!(later.all(|other| other.label() != why.label()));
        }
    }
}
