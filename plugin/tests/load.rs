//! Real libraries, made by the system's C compiler: the example conforms, what is no plugin is refused by
//! name and reason, and what `uvs plugin check` is for is found. Needs `cc`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use uvs_plugin::check;
use uvs_plugin::file::Image;
use uvs_plugin::host::{LoadError, Plugin};

/// A table with the given fields after its head.
fn with_table(fields: &str) -> String {
    format!(
        "#include <stdlib.h>\n#include \"uvs_scheduler.h\"\n\
         static int64_t first(void *s, const struct uvs_flow *f, const struct uvs_backend *b, size_t n)\n\
         {{ (void)s; (void)f; for (size_t i = 0; i < n; i++) if (uvs_is_available(b + i)) return i; return UVS_NONE; }}\n\
         static int64_t leak(void *s, const struct uvs_flow *f, const struct uvs_backend *b, size_t n)\n\
         {{ void *volatile lost = malloc(64); (void)lost; return first(s, f, b, n); }}\n\
         static int64_t any(void *s, const struct uvs_flow *f, const struct uvs_backend *b, size_t n)\n\
         {{ (void)s; (void)f; (void)b; return n ? 0 : UVS_NONE; }}\n\
         static int64_t minus(void *s, const struct uvs_flow *f, const struct uvs_backend *b, size_t n)\n\
         {{ (void)s; (void)f; (void)b; (void)n; return -5; }}\n\
         static int64_t moody(void *s, const struct uvs_flow *f, const struct uvs_backend *b, size_t n)\n\
         {{ static uint64_t calls; (void)s; (void)f; uint64_t from = calls++; \
            for (size_t i = 0; i < n; i++) {{ size_t k = (from + i) % n; if (uvs_is_available(b + k)) return k; }} return UVS_NONE; }}\n\
         static void *hold(const struct uvs_params *p) {{ (void)p; return malloc(4096); }}\n\
         const struct uvs_scheduler_table *uvs_scheduler(void)\n\
         {{ static const struct uvs_scheduler_table t = {{ UVS_SCHEDULER_HEAD, .name = \"test\", .version = \"1\", .about = \"a test\", {fields} }};\n\
           (void)first; (void)leak; (void)any; (void)minus; (void)moody; (void)hold; return &t; }}\n"
    )
}

/// One test at a time: the memory that grows is the process's.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Built {
    _dir: tempfile::TempDir,
    file: PathBuf,
}

fn build(source: &str) -> Built {
    let dir = tempfile::tempdir().expect("a directory");
    let text = dir.path().join("plugin.c");
    std::fs::write(&text, source).expect("written");
    compile(&text, dir)
}

fn compile(source: &Path, dir: tempfile::TempDir) -> Built {
    let file = dir.path().join("libtest.so");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let output = Command::new("cc")
        .args([
            "-std=c11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-I",
        ])
        .arg(include)
        .arg("-o")
        .args([&file, source])
        .output()
        .expect("a C compiler called cc");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    Built { _dir: dir, file }
}

fn load(file: &Path) -> Result<Plugin, LoadError> {
    Plugin::load(Image::anywhere(file)?)
}

fn refusal(source: &str) -> String {
    let built = build(source);
    let said = load(&built.file).expect_err("refused").to_string();
    let file = built.file.canonicalize().expect("its path");
    said.strip_prefix(&file.display().to_string())
        .unwrap_or_else(|| panic!("{said} does not begin with the file"))
        .to_owned()
}

/// The parts that fail, each with what is said of it.
fn findings(file: &Path) -> Vec<String> {
    let plugin = load(file).expect("a plugin");
    let mut heard = Heard::default();
    let conforms = check::run(&plugin, &mut heard);
    assert_eq!(conforms, heard.findings.is_empty());
    heard.findings
}

/// A check's end, and that its progress was none but forward.
#[derive(Default)]
struct Heard {
    part: String,
    percent: u64,
    findings: Vec<String>,
}

impl check::Listener for Heard {
    fn begin(&mut self, part: &str) {
        part.clone_into(&mut self.part);
        self.percent = 0;
    }

    fn progress(&mut self, percent: u64) {
        assert!((self.percent..100).contains(&percent), "{percent}");
        self.percent = percent;
    }

    fn end(&mut self, outcome: check::Outcome) {
        if let Err(what) = outcome {
            self.findings.push(format!("{}: {what}", self.part));
        } else if self.part.starts_with("a million") {
            assert_eq!(self.percent, 99, "it was told");
        }
    }
}

#[test]
fn the_c_example_conforms() {
    let _alone = alone();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/c-wrandom/wrandom.c");
    let built = compile(&example, tempfile::tempdir().expect("a directory"));
    let plugin = load(&built.file).expect("a plugin");
    assert_eq!((plugin.name(), plugin.version()), ("wrandom", "0.1.0"));
    assert!(plugin.is_deterministic());
    assert_eq!(findings(&built.file), [""; 0]);
}

#[test]
fn what_is_no_plugin_is_refused_by_file_and_reason() {
    let _alone = alone();
    assert!(refusal("int nothing;").contains(" has no symbol uvs_scheduler: export the scheduler"));
    assert!(
        refusal("void missing(void); void *uvs_scheduler(void) { missing(); return 0; }")
            .contains(" cannot be loaded: undefined symbol: missing")
    );
    assert!(refusal("void *uvs_scheduler(void) { return 0; }").contains("NULL instead of a table"));
    let other =
        "static const unsigned t[64] = { 2, 999 }; const void *uvs_scheduler(void) { return t; }";
    assert!(refusal(other).contains(": it has ABI version 2, this uvs has version 1: rebuild it"));
    let other =
        "static const unsigned t[64] = { 1, 999 }; const void *uvs_scheduler(void) { return t; }";
    assert!(refusal(other).contains(": its table has 999 bytes, this uvs's has 88"));
    assert!(refusal(&with_table(".create = hold")).contains("has no pick function"));
    let text = tempfile::NamedTempFile::new().expect("a file");
    assert!(
        load(text.path())
            .expect_err("refused")
            .to_string()
            .contains("is not a shared library")
    );
}

#[test]
fn a_new_file_at_the_same_path_is_another_library() {
    let _alone = alone();
    let built = build(&with_table(".pick = first"));
    let other = build(&with_table(".pick = any, .claims = UVS_DETERMINISTIC"));
    let first = load(&built.file).expect("a plugin");
    // Over the very file that is loaded, as `cp` does it.
    std::fs::copy(&other.file, &built.file).expect("copied");
    let second = load(&built.file).expect("a plugin");
    assert_eq!(
        (first.is_deterministic(), second.is_deterministic()),
        (false, true)
    );
    let instance = first.instance(&Default::default());
    assert!(instance.is_ok(), "the first one's code is untouched");
}

#[test]
fn the_check_finds_what_it_looks_for() {
    let _alone = alone();
    let found = |fields| findings(&build(&with_table(fields)).file).join("\n");
    assert_eq!(found(".pick = first"), "");
    let said = found(".pick = leak");
    assert!(
        said.starts_with("a million picks: memory grew by "),
        "{said}"
    );
    assert!(
        said.contains("KiB over these picks: something is allocated and never freed"),
        "{said}"
    );
    let said = found(".pick = any");
    assert!(
        said.contains("no server available: picked server 0, which is overloaded"),
        "{said}"
    );
    let said = found(".pick = minus");
    assert!(
        said.contains("empty set: pick returned -5; it must return a server's index"),
        "{said}"
    );
    let said = found(".pick = moody, .claims = UVS_DETERMINISTIC");
    assert!(
        said.contains("two instances with the same seed and history picked"),
        "{said}"
    );
    let said = found(".pick = first, .create = hold");
    assert!(
        said.starts_with("ten thousand instances: memory grew by "),
        "{said}"
    );
}
