# Boots the machine's own Debian, as an overlay that nothing outlives, under a systemd of its own in the network namespace that
# this is run in. It gets namespaces for all else, a cgroup, and a bpffs like the one that systemd mounts.
#
#   sh boot.sh ROOT CGROUP DIRECTORY     ROOT is to be made; DIRECTORY is there as /packages
set -eu

if [ "${4-}" != inside ]; then
    mkdir -p "$1" "$2"
    echo $$ >"$2/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child --uts --ipc --cgroup sh "$0" "$1" "$2" "$3" inside
fi

mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
packages=$3
cd "$1/root"

# Of what systemd would set on a machine only what a namespace has of its own can be written.
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o mode=700,nosuid,noexec bpf sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in full net/tun null random tty urandom zero; do
    mkdir -p "dev/${device%/*}" 2>/dev/null || true
    [ -d "dev/$device" ] && rmdir "dev/$device"
    [ ! -e "/dev/$device" ] || { : >"dev/$device" && mount --bind "/dev/$device" "dev/$device"; }
done
mkdir dev/pts dev/shm packages old
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount --bind "$packages" packages

# What would look at devices, at the machine's modules, or at the network.
for unit in systemd-modules-load.service systemd-udevd.service systemd-udev-trigger.service systemd-hwdb-update.service \
    systemd-random-seed.service systemd-remount-fs.service systemd-networkd.service systemd-resolved.service \
    networking.service keyboard-setup.service apparmor.service kmod-static-nodes.service e2scrub_reap.service \
    proc-sys-fs-binfmt_misc.automount dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-kernel-config.mount sys-fs-fuse-connections.mount systemd-networkd-wait-online.service; do
    ln -sf /dev/null "etc/systemd/system/$unit"
done
: >etc/fstab
# That services are stopped is what is tested.
rm -f usr/sbin/policy-rc.d

pivot_root . old
umount -l old
exec env -i container=uvs-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --show-status=0 --log-target=journal --unit=basic.target </dev/null >/dev/null 2>&1
