#!/bin/sh
# Boot systemd on a copy-on-write view of this machine's files, in namespaces of its own.
#
#   boot.sh DISK    DISK is a folder; what the booted system writes lies in it, and is there again at the next boot.
#                   The folder that the link DISK/media names is /media inside, to read.
#
# Nothing of the host can be changed from inside: the root is an overlay, /run, /tmp and /var/tmp are private and are
# mounted before systemd starts (which empties them), /proc/sys and /sys are read-only, the network and the cgroups are its
# own, and it may neither set the clock nor load modules. It ends with this process's parent.
set -eu

stage=${2:-outside}
disk=$1

if [ "$stage" = outside ]; then
    exec setpriv --pdeathsig KILL unshare --mount --propagation private sh "$0" "$disk" cgroup
fi

if [ "$stage" = cgroup ]; then
    # What systemd makes of cgroups stays below this one; its parent removes it.
    mkdir -p "$disk/cgroup"
    mount -t cgroup2 cgroup2 "$disk/cgroup"
    mkdir -p "$disk/cgroup/appstatsd-test-$$"
    echo $$ >"$disk/cgroup/appstatsd-test-$$/cgroup.procs"
    echo "appstatsd-test-$$" >"$disk/cgroup-name"
    umount "$disk/cgroup"
    exec unshare --cgroup --pid --fork --kill-child --uts --ipc --net --mount --propagation private sh "$0" "$disk" inside
fi

root=$disk/root
mkdir -p "$disk/upper" "$disk/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$disk/upper,workdir=$disk/work" "$root"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    name=${node%%:*}
    number=${node#*:}
    mknod -m 666 "$root/dev/$name" c "${number%:*}" "${number#*:}"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=1777 tmpfs "$root/var/tmp"

# The checkout may lie below one of these.
checkout=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$root$checkout"
mount --bind "$checkout" "$root$checkout"
mount -o remount,bind,ro "$root$checkout"
if [ -e "$disk/media" ]; then
    mount --bind "$(readlink -f "$disk/media")" "$root/media"
    mount -o remount,bind,ro "$root/media"
fi

# The test's own Python may lie below a folder that is root's alone.
chmod o+x "$root/root"
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
    systemd-modules-load.service kmod-static-nodes.service systemd-hwdb-update.service systemd-sysctl.service \
    systemd-random-seed.service systemd-pstore.service systemd-binfmt.service proc-sys-fs-binfmt_misc.automount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount dev-mqueue.mount systemd-repart.service systemd-firstboot.service systemd-timesyncd.service \
    systemd-remount-fs.service systemd-machine-id-commit.service systemd-tmpfiles-setup-dev.service \
    systemd-journald-audit.socket systemd-logind.service dbus.service dbus.socket postgresql.service; do
    [ -e "$root/etc/systemd/system/$unit" ] || ln -sfn /dev/null "$root/etc/systemd/system/$unit"
done
: >"$root/etc/fstab"
cat >"$root/etc/systemd/system/test.target" <<END
[Unit]
Requires=basic.target
After=basic.target
AllowIsolate=yes
END

mkdir -p "$root/old"
cd "$root"
pivot_root . old
umount -l /old
cd /
# As a host's root is: systemd hands credentials and namespaces over by it.
mount --make-rshared /
exec setpriv --bounding-set -sys_time,-sys_module,-sys_rawio,-syslog,-sys_boot \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin container=appstatsd-test TERM=dumb \
    /lib/systemd/systemd --system --unit=test.target --log-target=journal
