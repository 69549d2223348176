//! The dynamic loader's part: a file becomes a library of this process, which gives its table. A program that is linked
//! statically has no such loader, and says so (the feature `load`).

use crate::abi::Table;
use crate::file::Image;
use crate::host::LoadError;

/// A library's table, or null. It stays loaded, whatever becomes of that.
#[cfg(feature = "load")]
pub(crate) fn table(image: Image) -> Result<*const Table, LoadError> {
    use std::mem::ManuallyDrop;

    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

    use crate::abi::{Entry, SYMBOL};

    let path = image.path().to_owned();
    // Both stay: the library for its code, the image because the loader knows the library by this name.
    let image = ManuallyDrop::new(image);
    // SAFETY: an image is of a file that root alone could write, who could replace this program as
    // well, or of one whose author asked to try it.
    let library = unsafe { Library::open(Some(image.reachable()), RTLD_NOW | RTLD_LOCAL) };
    let library = ManuallyDrop::new(library.map_err(|error| LoadError::Loader {
        why: loader_said(&error, &image.reachable()),
        path: path.clone(),
    })?);
    // SAFETY: the ABI defines this symbol as a function of this type.
    let entry: Result<Symbol<Entry>, _> = unsafe { library.get(SYMBOL) };
    let Ok(entry) = entry else {
        return Err(LoadError::NoSymbol { path });
    };
    // SAFETY: as above; it takes nothing and returns a pointer to constant data or null.
    Ok(unsafe { entry() })
}

/// No library can be loaded.
#[cfg(not(feature = "load"))]
pub(crate) fn table(image: Image) -> Result<*const Table, LoadError> {
    let path = image.path().to_owned();
    Err(LoadError::NoPlugins { path })
}

/// The loader's words without the private copy's name, which would only puzzle.
#[cfg(feature = "load")]
fn loader_said(error: &libloading::Error, copy: &str) -> String {
    let why = match error {
        libloading::Error::DlOpen { source } => source.to_string(),
        other => other.to_string(),
    };
    why.replace(&format!("{copy}: "), "")
}
