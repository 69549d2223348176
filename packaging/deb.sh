#!/bin/sh
# Makes the Debian packages uvs, uvs-ipvsadm and uvs-dev, with dpkg's own tools and nothing else.
#
#   packaging/deb.sh OUT        what is built as a release, without the lab
#   packaging/deb.sh OUT DIR    uvs and libuvs_ipvs.so as they lie in DIR: to test what is around them
#
# The version is Cargo.toml's, the time that of the last commit or $SOURCE_DATE_EPOCH: the same commit makes the same
# packages, byte for byte. $DEBFULLNAME and $DEBEMAIL name who makes them.
set -eu

[ $# = 1 ] || [ $# = 2 ] || {
    echo "usage: $0 OUT [DIR]" >&2
    exit 2
}
mkdir -p "$1"
OUT=$(cd "$1" && pwd)
BUILT=${2:-}
[ -z "$BUILT" ] || BUILT=$(cd "$BUILT" && pwd)
cd "$(dirname "$0")/.."

for tool in dpkg-deb dpkg-gencontrol dpkg-shlibdeps strip; do
    command -v "$tool" >/dev/null || {
        echo "deb.sh: $tool is missing: apt-get install dpkg-dev binutils" >&2
        exit 1
    }
done

umask 022
export LC_ALL=C TZ=UTC
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH
UPSTREAM=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
# A distribution's own packages of this version, -1 and on, are newer.
VERSION=$UPSTREAM-0uvs1
MAINTAINER="${DEBFULLNAME:-The UVS authors} <${DEBEMAIL:-uvs@users.noreply.github.com}>"
DAY=$(date -d "@$SOURCE_DATE_EPOCH" +%F)

# No machine's paths in the programs, nor its crates'.
build() {
    BUILT=${CARGO_TARGET_DIR:-$PWD/target}/deb/release
    RUSTFLAGS="--remap-path-prefix=$PWD=/usr/src/uvs --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src=/usr/src/crates" \
        cargo build --locked --release --no-default-features --features plugins -p uvs -p uvs-ipvs-preload --target-dir "${BUILT%/release}"
}
[ -n "$BUILT" ] || build

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
# As dpkg's tools expect it: a package's files in debian/PACKAGE.
STAGE=$WORK/debian
mkdir "$STAGE"

put() { # MODE FILE DESTINATION
    install -D -m "$1" "$2" "$3"
}

page() { # FILE, to standard output
    sed "s/@DATE@/$DAY/; s/@VERSION@/$UPSTREAM/" "$1"
}

# What every package has under /usr/share/doc.
documented() { # PACKAGE
    doc=$STAGE/$1/usr/share/doc/$1
    put 644 packaging/debian/copyright "$doc/copyright"
    gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
    gzip -9n <"$STAGE/changelog" >"$doc/changelog.Debian.gz"
}

manual() { # PACKAGE PAGE NAME
    section=${3##*.}
    mkdir -p "$STAGE/$1/usr/share/man/man$section"
    gzip -9n <"$2" >"$STAGE/$1/usr/share/man/man$section/$3.gz"
}

# The texts of what is linked in: their terms ask that they go with the program.
third_party() {
    sources=${CARGO_HOME:-$HOME/.cargo}/registry/src
    cargo tree --locked --quiet -p uvs -p uvs-ipvs-preload --no-default-features --features plugins --edges normal --prefix none --format '{p} {l}' |
        sed -n 's/ (\*)$//; s/^\([^ ]*\) v\([^ ]*\)\( (proc-macro)\)\{0,1\} \([^(].*\)$/\1-\2 \4/p' | sort -u |
        while read -r crate terms; do
            printf '== %s: %s\n\n' "$crate" "$terms"
            for text in "$sources"/*/"$crate"/LICEN[CS]E* "$sources"/*/"$crate"/COPYING*; do
                # Apache's is in /usr/share/common-licenses.
                case $text in *[Aa][Pp][Aa][Cc][Hh][Ee]*) continue ;; esac
                [ ! -f "$text" ] || { cat "$text" && echo; }
            done
        done
}

sed "s/@MAINTAINER@/$MAINTAINER/" packaging/debian/control >"$STAGE/control"
cat >"$STAGE/changelog" <<END
uvs ($VERSION) unstable; urgency=medium

  * What has changed is in changelog.gz.

 -- $MAINTAINER  $(date -R -d "@$SOURCE_DATE_EPOCH")
END

# uvs
root=$STAGE/uvs
put 755 "$BUILT/uvs" "$root/usr/bin/uvs"
put 644 "$BUILT/libuvs_ipvs.so" "$root/usr/lib/uvs/libuvs_ipvs.so"
strip --remove-section=.comment --remove-section=.note "$root/usr/bin/uvs"
strip --remove-section=.comment --remove-section=.note --strip-unneeded "$root/usr/lib/uvs/libuvs_ipvs.so"
install -d "$root/usr/lib/uvs/schedulers" "$root/usr/lib/uvs/bpf/uvs" "$root/etc/uvs/rs"
put 644 packaging/uvs.toml "$root/etc/uvs/uvs.toml"
for unit in packaging/systemd/*.service; do
    put 644 "$unit" "$root/lib/systemd/system/${unit##*/}"
done
put 644 packaging/systemd/sysusers.conf "$root/usr/lib/sysusers.d/uvs.conf"
put 644 packaging/systemd/tmpfiles.conf "$root/usr/lib/tmpfiles.d/uvs.conf"
"$BUILT/uvs" man "$WORK/man" --date "$DAY"
for file in "$WORK"/man/*; do
    manual uvs "$file" "${file##*/}"
done
install -d "$root/usr/share/bash-completion/completions" "$root/usr/share/zsh/vendor-completions" \
    "$root/usr/share/fish/vendor_completions.d"
"$BUILT/uvs" completions bash >"$root/usr/share/bash-completion/completions/uvs"
"$BUILT/uvs" completions zsh >"$root/usr/share/zsh/vendor-completions/_uvs"
"$BUILT/uvs" completions fish >"$root/usr/share/fish/vendor_completions.d/uvs.fish"
for file in exporter/grafana/dashboards/*.json; do
    put 644 "$file" "$root/usr/share/uvs/dashboards/${file##*/}"
done
put 644 exporter/rules/uvs.rules.yml "$root/usr/share/uvs/rules/uvs.rules.yml"
documented uvs
for file in docs/*.md; do
    put 644 "$file" "$root/usr/share/doc/uvs/docs/${file##*/}"
done
for file in examples/*.toml; do
    put 644 "$file" "$root/usr/share/doc/uvs/examples/${file##*/}"
done
third_party | gzip -9n >"$root/usr/share/doc/uvs/third-party.gz"

# uvs-ipvsadm. In /sbin, as Debian's: where /sbin is /usr/sbin, dpkg tells files apart by the path that a package names, and
# would remove ours with the ones that they replace.
root=$STAGE/uvs-ipvsadm
install -d "$root/sbin"
ln -s /usr/bin/uvs "$root/sbin/ipvsadm"
for name in ipvsadm ipvsadm-save ipvsadm-restore; do
    if [ "$name" != ipvsadm ]; then
        put 755 "packaging/ipvsadm/$name" "$root/usr/lib/uvs/$name"
        ln -s "/usr/lib/uvs/$name" "$root/sbin/$name"
    fi
    page "packaging/man/$name.8" >"$WORK/page"
    manual uvs-ipvsadm "$WORK/page" "$name.8"
done
documented uvs-ipvsadm

# uvs-dev
root=$STAGE/uvs-dev
put 644 plugin/include/uvs_scheduler.h "$root/usr/include/uvs_scheduler.h"
(cd plugin/examples && find . -type f \( -name '*.rs' -o -name '*.c' -o -name 'Cargo.toml' -o -name Makefile \) -printf '%P\n') | while read -r file; do
    put 644 "plugin/examples/$file" "$root/usr/share/doc/uvs-dev/examples/$file"
done
sed -i 's|^INCLUDE ?= .*|INCLUDE ?= /usr/include|; s|; `uvs plugin new NAME --lang c` puts it beside the source||' \
    "$root/usr/share/doc/uvs-dev/examples/c-wrandom/Makefile"
put 644 packaging/debian/uvs-dev.README "$root/usr/share/doc/uvs-dev/examples/README"
put 644 docs/plugins.md "$root/usr/share/doc/uvs-dev/plugins.md"
documented uvs-dev

pack() { # PACKAGE
    root=$STAGE/$1
    mkdir "$root/DEBIAN"
    for script in postinst prerm postrm; do
        [ ! -f "packaging/debian/$1.$script" ] || put 755 "packaging/debian/$1.$script" "$root/DEBIAN/$script"
    done
    [ ! -f "packaging/debian/$1.conffiles" ] || put 644 "packaging/debian/$1.conffiles" "$root/DEBIAN/conffiles"
    (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | sort | xargs -d '\n' md5sum >DEBIAN/md5sums)
    chmod 644 "$root/DEBIAN/md5sums"
    find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    (
        cd "$WORK"
        : >"substvars"
        [ "$1" != uvs ] || dpkg-shlibdeps -Tsubstvars debian/uvs/usr/bin/uvs debian/uvs/usr/lib/uvs/libuvs_ipvs.so
        dpkg-gencontrol -p"$1" -P"debian/$1" -Tsubstvars -f"$WORK/files"
    )
    touch -d "@$SOURCE_DATE_EPOCH" "$root/DEBIAN/control" "$root/DEBIAN"
    dpkg-deb --root-owner-group ${DEB_COMPRESSION:+-Z"$DEB_COMPRESSION"} --build "$root" "$OUT" >/dev/null
}

for package in uvs uvs-ipvsadm uvs-dev; do
    pack "$package"
done
sed "s|^\([^ ]*\).*|$OUT/\1|" "$WORK/files"
