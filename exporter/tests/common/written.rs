//! Files that are generated and kept in the tree: they must be what the code says.

/// Compares a generated file, named from the crate, with the one that is kept; `UPDATE_DOCS=1` writes it.
pub(crate) fn must_be_written(path: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    // Other tests read it meanwhile.
    if std::env::var_os("UPDATE_DOCS").is_some() && read() != text {
        std::fs::write(&path, text).expect("written");
    }
    assert!(
        read() == text,
        "{} differs from the code; write it again: UPDATE_DOCS=1 cargo test -p {}",
        path.display(),
        env!("CARGO_PKG_NAME")
    );
}
