#!/bin/sh
# Lines of Rust by crate, without blank lines and comments: what is built into the product, and what tests it
# (`tests/`, `benches/`, `testing/`, `golden/` and files of the name `tests.rs`; `mod tests` in a file counts as the file).
set -eu
cd "$(dirname "$0")/.."

count() {
    xargs -r cat | grep -cvE '^[[:space:]]*(//|$)' || true
}

printf '%-12s %8s %8s\n' crate code tests
for manifest in */Cargo.toml; do
    crate=${manifest%/Cargo.toml}
    files=$(git ls-files "$crate" | grep '\.rs$' || true)
    tests=$(echo "$files" | grep -E '/(tests|benches|testing|golden)/|tests\.rs$' || true)
    code=$(echo "$files" | grep -vE '/(tests|benches|testing|golden)/|tests\.rs$' || true)
    printf '%-12s %8s %8s\n' "$crate" "$(echo "$code" | count)" "$(echo "$tests" | count)"
done
