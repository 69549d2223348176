//! Prints `docs/metrics.md`: `cargo run -p uvs-exporter --example metrics-doc > docs/metrics.md`.

fn main() {
    print!("{}", uvs_exporter::catalog::markdown());
}
