//! How a table of named fields becomes a view.

/// A field's value, network byte order on the wire.
pub(super) trait Field: Sized {
    /// Reads it from exactly its bytes.
    fn read(bytes: &[u8]) -> Self;

    /// Writes it to exactly its bytes.
    fn write(self, bytes: &mut [u8]);
}

impl Field for u8 {
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        bytes[0]
    }

    #[inline]
    fn write(self, bytes: &mut [u8]) {
        bytes[0] = self;
    }
}

impl Field for u16 {
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        Self::from_be_bytes(<[u8; 2]>::read(bytes))
    }

    #[inline]
    fn write(self, bytes: &mut [u8]) {
        self.to_be_bytes().write(bytes);
    }
}

impl Field for u32 {
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        Self::from_be_bytes(<[u8; 4]>::read(bytes))
    }

    #[inline]
    fn write(self, bytes: &mut [u8]) {
        self.to_be_bytes().write(bytes);
    }
}

impl<const N: usize> Field for [u8; N] {
    #[inline]
    fn read(bytes: &[u8]) -> Self {
        let mut field = [0; N];
        field.copy_from_slice(bytes);
        field
    }

    #[inline]
    fn write(self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self);
    }
}

/// Makes a view of a header of fixed length, with a reader, a writer and an offset for each of its fields.
///
/// A row is `OFFSET_NAME => reader, writer: type = offset`. One that reaches beyond the header does not
/// compile.
macro_rules! header {
    (
        $(#[$doc:meta])*
        pub struct $name:ident[$len:expr], $offset:ident;
        $(
            $(#[$field_doc:meta])*
            $vis:vis $at_name:ident => $get:ident, $set:ident: $ty:ty = $at:expr;
        )*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<B>(B);

        #[doc = concat!("Where the fields of [`", stringify!($name), "`] begin, bytes.")]
        pub mod $offset {
            $(
                $(#[$field_doc])*
                $vis const $at_name: usize = $at;
            )*
        }

        impl<'a> $name<&'a [u8; $len]> {
            /// The header that `bytes` begin with.
            ///
            /// # Errors
            /// [`Malformed::Truncated`](crate::wire::Malformed::Truncated) where they are fewer.
            #[inline]
            pub fn new_checked(bytes: &'a [u8]) -> Result<Self, crate::wire::Malformed> {
                match bytes.first_chunk() {
                    Some(header) => Ok(Self(header)),
                    None => Err(crate::wire::Malformed::Truncated),
                }
            }

            /// The header that `bytes` begin with, whose length was checked before.
            ///
            /// # Panics
            /// Where they are fewer.
            #[inline]
            #[track_caller]
            pub fn new(bytes: &'a [u8]) -> Self {
                Self(bytes.first_chunk().expect("a header whose length was checked"))
            }
        }

        impl<'a> $name<&'a mut [u8; $len]> {
            /// The header that `bytes` begin with, whose length was checked before, to be changed.
            ///
            /// # Panics
            /// Where they are fewer.
            #[inline]
            #[track_caller]
            pub fn new_mut(bytes: &'a mut [u8]) -> Self {
                Self(bytes.first_chunk_mut().expect("a header whose length was checked"))
            }
        }

        impl<B: std::borrow::Borrow<[u8; $len]>> $name<B> {
            $(
                $(#[$field_doc])*
                #[inline]
                $vis fn $get(&self) -> $ty {
                    const END: usize = $offset::$at_name + size_of::<$ty>();
                    const { assert!(END <= $len) };
                    crate::wire::view::Field::read(&self.0.borrow()[$offset::$at_name..END])
                }
            )*
        }

        impl<B: std::borrow::BorrowMut<[u8; $len]>> $name<B> {
            $(
                $(#[$field_doc])*
                #[inline]
                $vis fn $set(&mut self, value: $ty) {
                    const END: usize = $offset::$at_name + size_of::<$ty>();
                    crate::wire::view::Field::write(
                        value,
                        &mut self.0.borrow_mut()[$offset::$at_name..END],
                    );
                }
            )*
        }
    };
}
