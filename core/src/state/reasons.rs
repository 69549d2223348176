//! Closed lists of reasons: one variant = one metric label = one documented line.

/// An enumeration of reasons, of which each has a label and a meaning.
macro_rules! reasons {
    ($(#[$about:meta])* $name:ident { $($variant:ident $label:literal $meaning:literal)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $meaning] $variant),* }

        impl $name {
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

pub(crate) use reasons;
