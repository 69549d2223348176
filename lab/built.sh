#!/usr/bin/env bash
# Runs test programs of some crates once more, as they were built for the whole workspace.
#
# Usage: lab/built.sh CRATE[:KIND]... -- ARGUMENT..., with a crate's folder, and what of it (lib, test, ...) if not all.
#
# `cargo test -p CRATE` would first compile them, and what they are made of, with only the features these crates ask for.
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=()
while [ "${1---}" != -- ]; do wanted+=("$1") && shift; done
shift

# A line for each: folder, kind, name, program.
programs=$(cargo test --quiet --workspace --all-targets --no-run --message-format=json | jq -r --arg root "$PWD/" '
    select(.reason == "compiler-artifact" and .profile.test and .executable)
    | [(.manifest_path | ltrimstr($root) | rtrimstr("/Cargo.toml")), .target.kind[0], .target.name, .executable] | @tsv')
for one in "${wanted[@]}"; do
    matched=0
    while IFS=$'\t' read -r folder kind name program; do
        [ "$folder" = "${one%%:*}" ] || continue
        case "$one" in *:*) [ "$kind" = "${one#*:}" ] || continue ;; esac
        matched=1
        printf '     Running %s %s of %s\n' "$kind" "$name" "$folder"
        (cd "$folder" && "$program" "$@")
    done <<<"$programs"
    [ $matched = 1 ] || { echo "built: no test program of $one" >&2; exit 1; }
done
