//! The C header against the Rust definitions: the system's C compiler compares every field's offset and
//! size, every constant and every function's type. Needs `cc`.

use std::fmt::Write;
use std::mem::offset_of;
use std::path::Path;
use std::process::Command;

use uvs_plugin::abi::{self, Params, Table};
use uvs_plugin::{Addr, Backend, FLAG_1, FLAG_2, FLAG_3, Flow};

/// Assertions about each named field of a structure: its offset, and the size of what is there.
macro_rules! fields {
    ($out:expr, $c:literal, $rust:ty, $($field:ident: $type:ty),* $(,)?) => {$(
        let (offset, size) = (offset_of!($rust, $field), size_of::<$type>());
        let field = stringify!($field);
        writeln!($out, "_Static_assert(offsetof(struct {}, {field}) == {offset}, \"{field}\");", $c).expect("written");
        writeln!($out, "_Static_assert(sizeof(((struct {} *)0)->{field}) == {size}, \"{field}\");", $c).expect("written");
        // And here, that the type is the field's.
        let _: fn(&$rust) -> &$type = |value| &value.$field;
    )*};
}

fn assertions() -> String {
    let mut c = String::from("#include \"uvs_scheduler.h\"\n");
    fields!(c, "uvs_flow", Flow, src: Addr, dst: Addr, src_port: u16, dst_port: u16, protocol: u8, reserved: [u8; 3]);
    fields!(c, "uvs_backend", Backend, addr: Addr, id: u64, weight: u32, active: u32, inactive: u32, flags: u32,
        port: u16, reserved: u16, handshake: u32);
    fields!(c, "uvs_params", Params, seed: u64, flags: u32, table_size: u32);
    type Text = *const std::ffi::c_char;
    fields!(c, "uvs_scheduler_table", Table, abi: u32, size: u32, backend_size: u32, flow_size: u32, name: Text,
        version: Text, about: Text, claims: u64);
    for (i, function) in ["create", "destroy", "backends_changed", "pick", "tick"]
        .iter()
        .enumerate()
    {
        let offset = offset_of!(Table, create) + i * size_of::<usize>();
        writeln!(c, "_Static_assert(offsetof(struct uvs_scheduler_table, {function}) == {offset}, \"{function}\");")
            .expect("written");
    }
    let sizes = [
        ("uvs_addr", size_of::<Addr>()),
        ("uvs_flow", size_of::<Flow>()),
        ("uvs_backend", size_of::<Backend>()),
        ("uvs_params", size_of::<Params>()),
        ("uvs_scheduler_table", size_of::<Table>()),
    ];
    for (name, size) in sizes {
        writeln!(
            c,
            "_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");"
        )
        .expect("written");
    }
    let values = [
        ("UVS_SCHEDULER_ABI", i64::from(abi::ABI)),
        ("UVS_NAME_MAX", i64::try_from(abi::NAME_MAX).expect("small")),
        ("UVS_NONE", abi::NONE),
        ("UVS_DETERMINISTIC", abi::DETERMINISTIC.cast_signed()),
        ("UVS_FLAG_1", i64::from(FLAG_1)),
        ("UVS_FLAG_2", i64::from(FLAG_2)),
        ("UVS_FLAG_3", i64::from(FLAG_3)),
        ("UVS_OVERLOADED", i64::from(Backend::OVERLOADED)),
    ];
    for (name, value) in values {
        writeln!(c, "_Static_assert({name} == {value}, \"{name}\");").expect("written");
    }
    c
}

/// The order of the functions in Rust's table, which the loop above counts on.
const _: () = {
    let step = size_of::<usize>();
    assert!(offset_of!(Table, destroy) == offset_of!(Table, create) + step);
    assert!(offset_of!(Table, backends_changed) == offset_of!(Table, create) + 2 * step);
    assert!(offset_of!(Table, pick) == offset_of!(Table, create) + 3 * step);
    assert!(offset_of!(Table, tick) == offset_of!(Table, create) + 4 * step);
};

fn compile(text: &str, flags: &[&str]) -> (bool, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("header.c");
    std::fs::write(&file, text).expect("written");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let output = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"])
        .arg(include)
        .args(flags)
        .arg(&file)
        .output()
        .expect("a C compiler called cc");
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn the_header_equals_the_rust_definitions() {
    let (good, said) = compile(&assertions(), &["-std=c11", "-pedantic"]);
    assert!(good, "{said}");
}

#[test]
fn a_header_that_differs_is_found() {
    let differing = assertions().replace("weight) == 24", "weight) == 25");
    let (good, said) = compile(&differing, &["-std=c11"]);
    assert!(!good && said.contains("weight"), "{said}");
}

#[test]
fn the_header_is_c_plus_plus_too() {
    let (good, said) = compile(
        "#include \"uvs_scheduler.h\"\n",
        &["-x", "c++", "-std=c++17"],
    );
    assert!(good, "{said}");
}
