//! What a Rust plugin is built from: the guest's side of `uvs-plugin`, and of `uvs-core` the contract of a scheduler with what
//! it names, as they were when this program was built. No engine is among it, and of other crates only serde.

/// A file: its path within, and its text.
type File = (String, String);

macro_rules! sources {
    ($from:literal, $to:literal: $($file:literal)*) => {
        &[$((
            concat!($to, "/src/", $file),
            include_str!(concat!("../../../../", $from, "/", $file)),
        )),*]
    };
}

const COPIES: [&[(&str, &str)]; 4] = [
    sources!("core/src/state", "uvs-core": "backend.rs" "flow.rs" "plugins.rs" "random.rs" "time.rs"),
    sources!("core/src", "uvs-core": "narrow.rs" "scheduler.rs"),
    sources!("core/src", "uvs-core": "testing/conformance.rs" "testing/servers.rs"),
    sources!("plugin/src", "uvs-plugin": "abi.rs" "guest.rs" "lib.rs"),
];

const CORE: &str = "//! What of UVS's engine a scheduler sees; made by `uvs plugin new` from its sources.\n\
     #![forbid(unsafe_code)]\n\n\
     pub mod backend;\npub mod flow;\npub mod narrow;\npub mod plugins;\npub mod random;\n\
     pub mod scheduler;\npub mod time;\n\n\
     /// For a plugin's tests.\n#[cfg(feature = \"testing\")]\npub mod testing {\n    \
     pub mod conformance;\n    pub mod servers;\n}\n";

/// The two crates, each in a folder of its name.
pub(super) fn files() -> Vec<File> {
    let copies = COPIES.iter().copied().flatten();
    let copies = copies.map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
    let serde = "serde = { version = \"1\", features = [\"derive\"] }\n";
    let core = "uvs-core = { path = \"../uvs-core\" }\n";
    let made = [
        ("uvs-core/Cargo.toml", manifest("uvs-core", "", serde)),
        ("uvs-core/src/lib.rs", CORE.to_owned()),
        (
            "uvs-plugin/Cargo.toml",
            manifest("uvs-plugin", "\"uvs-core/testing\"", core),
        ),
    ];
    let made = made.map(|(path, text)| (path.to_owned(), text));
    made.into_iter().chain(copies).collect()
}

/// Parts of a crate leave some of it without use, and features without a name.
fn manifest(name: &str, testing: &str, dependency: &str) -> String {
    let (version, rust, license) = (
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_RUST_VERSION"),
        env!("CARGO_PKG_LICENSE"),
    );
    format!(
        "[package]\nname = \"{name}\"\n\
         description = \"The part of it that a UVS scheduler plugin is built from\"\n\
         version = \"{version}\"\nedition = \"2024\"\nrust-version = \"{rust}\"\nlicense = \"{license}\"\n\n\
         [features]\ntesting = [{testing}]\n\n\
         [lints.rust]\ndead_code = \"allow\"\nunexpected_cfgs = \"allow\"\n\n\
         [dependencies]\n{dependency}"
    )
}
