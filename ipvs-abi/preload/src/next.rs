//! The C library's own functions, which those here stand before.

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::c_void;

/// A function's address, looked up once.
pub(crate) struct Next {
    name: &'static CStr,
    address: AtomicPtr<c_void>,
}

impl Next {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            address: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// Never null: a program that calls a function of the C library's was linked with it.
    pub(crate) fn address(&self) -> *mut c_void {
        let known = self.address.load(Ordering::Relaxed);
        if !known.is_null() {
            return known;
        }
        // SAFETY: the name is a C string; RTLD_NEXT looks in the libraries after this one.
        let found = unsafe { libc::dlsym(libc::RTLD_NEXT, self.name.as_ptr()) };
        if found.is_null() {
            std::process::abort();
        }
        self.address.store(found, Ordering::Relaxed);
        found
    }
}

/// Calls the C library's function of a name, with the types that are given.
macro_rules! next {
    ($name:ident($($value:expr => $kind:ty),* $(,)?) -> $result:ty) => {{
        static NEXT: $crate::next::Next = $crate::next::Next::new(
            // SAFETY: an identifier has no NUL, and the one at the end is the only one.
            unsafe {
                std::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes())
            },
        );
        // SAFETY: the C library declares the function of this name with these types.
        let function: unsafe extern "C" fn($($kind),*) -> $result = unsafe { std::mem::transmute(NEXT.address()) };
        // SAFETY: the values are what the caller of the function of the same name has given, or are made for it.
        unsafe { function($($value),*) }
    }};
}
pub(crate) use next;
