//! The macro that declares a closed set as one row a member.

/// Declares an enum whose variants each have a row: `ALL` lists them, `def` gives the row. A member is added
/// by its row alone.
macro_rules! rows {
    (
        $(#[$attribute:meta])*
        pub enum $name:ident: $row:ident {
            $($(#[$about:meta])* $variant:ident { $($field:ident: $value:expr,)* })*
        }
    ) => {
        $(#[$attribute])*
        pub enum $name { $($(#[$about])* $variant,)* }

        impl $name {
            /// Every one, in the order that lists and messages name them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its row.
            pub const fn def(self) -> &'static $row {
                match self {
                    $(Self::$variant => &const { $row { $($field: $value,)* } },)*
                }
            }
        }
    };
}

pub(super) use rows;
