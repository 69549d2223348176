#!/bin/sh
# Makes sure that the programs are there which building, the demo and the tests run.
#
#   lab/deps.sh demo    what `make demo` needs
#   lab/deps.sh test    what `make test` and `make bench` need besides
#   lab/deps.sh bench   what `make bench-side` needs besides
#   lab/deps.sh deb     what `make test-deb` needs besides; without them `make test` leaves out what they judge, and says so
#
# As root it installs what is missing through apt, and asks apt for nothing else; otherwise it names what to
# install and fails. The packages are those of lab/src/tools.rs.
set -eu

# A user's PATH on Debian lacks the sbin directories.
PATH=$PATH:/usr/sbin:/sbin
export DEBIAN_FRONTEND=noninteractive

DEMO="bash:bash curl:curl ethtool:ethtool ip:iproute2 nft:nftables nginx:nginx-light"
TEST="dpkg-shlibdeps:dpkg-dev /lib/systemd/systemd:systemd man:man-db strip:binutils iperf3:iperf3 jq:jq /usr/sbin/ipvsadm:ipvsadm keepalived:keepalived openssl:openssl python3:python3 setcap:libcap2-bin setpriv:util-linux tcpdump:tcpdump tmux:tmux wrk:wrk"
BENCH="haproxy:haproxy"
DEB="fish:fish lintian:lintian mandoc:mandoc zsh:zsh"
TRIES=3

case "${1-}" in
demo) WANTED=$DEMO ;;
test) WANTED="$DEMO $TEST" ;;
bench) WANTED="$DEMO $TEST $BENCH" ;;
deb) WANTED="$DEMO $TEST $DEB" ;;
*) echo "usage: $0 demo|test|bench|deb" >&2 && exit 2 ;;
esac

# An ipvsadm in PATH may be a link to uvs, so Debian's is looked for where it lies.
missing() {
    for pair in $WANTED; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair##*:}"
    done
    # The linker that Rust uses, and what it links: headers may be there without it, so try.
    echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null || echo gcc libc6-dev
}

# nginx, haproxy, ipvsadm and keepalived are wanted as programs only: their services are neither started nor left to start at the
# next boot.
without_services() {
    if [ -e /usr/sbin/policy-rc.d ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    "$@"
    rm -f /usr/sbin/policy-rc.d
}

install() {
    for try in $(seq $TRIES); do
        # shellcheck disable=SC2086  # a list of packages
        if apt-get update -q && without_services apt-get install -qy --no-install-recommends $1; then
            case " $1 " in *" nginx-light "*) systemctl disable nginx 2>/dev/null || true ;; esac
            case " $1 " in *" haproxy "*) systemctl disable haproxy 2>/dev/null || true ;; esac
            case " $1 " in *" ipvsadm "*) systemctl disable ipvsadm 2>/dev/null || true ;; esac
            case " $1 " in *" keepalived "*) systemctl disable keepalived 2>/dev/null || true ;; esac
            return
        fi
        echo "deps: apt failed, try $try of $TRIES" >&2
        sleep $((try * 2))
    done
}

command -v cargo >/dev/null || {
    echo "deps: Rust is missing; install it from https://rustup.rs" >&2
    exit 1
}

packages=$(missing | xargs)
[ -n "$packages" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "deps: missing; install as root with: apt-get install $packages" >&2
    exit 1
fi
if ! command -v apt-get >/dev/null; then
    echo "deps: no apt-get here; install what Debian has as: $packages" >&2
    exit 1
fi
echo "deps: installing $packages"
install "$packages"
packages=$(missing | xargs)
[ -z "$packages" ] || {
    echo "deps: could not install: $packages" >&2
    exit 1
}
