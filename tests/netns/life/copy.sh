#!/bin/bash
# copy.sh LIFE AREA OUTPUT [FILE...]: runs LIFE.sh in a copy of this system that vanishes at the end, as what systemd
# starts or, when it is called init, as process 1. FILEs are beside it. Expects namespaces of its own for mounts, network
# and processes, for systemd also for control groups. OUTPUT is a file for what the life says.
set -eu
life=$1 area=$2 output=$3
shift 3
root=$area/root
here=$(cd "$(dirname "$0")" && pwd)
repository=${here%/tests/netns/life}
mount -t tmpfs none "$area"
mkdir "$area/upper" "$area/work" "$root"
mount -t overlay none -o "lowerdir=/,upperdir=$area/upper,workdir=$area/work" "$root"
mount -t proc none "$root/proc"
mount -t sysfs none "$root/sys"
mount -t tmpfs none "$root/run"
mkdir "$root/life"
cp "$here"/*.sh "$@" "$root/life"
touch "$root/life/output"
mount --bind "$output" "$root/life/output"
if [ "$life" = init ]; then
    mount --rbind /dev "$root/dev"
    exec chroot "$root" /bin/bash /life/init.sh >"$output" 2>&1
fi

# What systemd expects of who runs it in a container, and nothing to start but the life and what that wants.
mount -t tmpfs none "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs none "$root/tmp"
mkdir -p "$root$repository"
mount --bind "$repository" "$root$repository"
mount -t tmpfs none "$root/sys/fs/cgroup"
mount -t cgroup2 none "$root/sys/fs/cgroup"
rm -rf "$root"/etc/systemd/system/*.wants/* "$root"/usr/lib/systemd/system/*.wants/* "$root/etc/fstab"
cat >"$root/run/life.service" <<END
[Unit]
Requires=basic.target
After=basic.target
[Service]
ExecStart=/bin/bash -c '/bin/bash /life/$life.sh; systemctl exit \$?'
StandardOutput=append:/life/output
StandardError=append:/life/output
END
tunables=${GLIBC_TUNABLES:-} # what a guest needs on some processors: see tests/ipvs/uml.py
if [ -n "$tunables" ]; then
    mkdir -p "$root/etc/systemd/system.conf.d"
    printf '[Manager]\nDefaultEnvironment=GLIBC_TUNABLES=%s\n' "$tunables" >"$root/etc/systemd/system.conf.d/life.conf"
fi
mkdir -p "$root/run/systemd/system"
mv "$root/run/life.service" "$root/run/systemd/system"
exec env -i container=test UML_GUEST="${UML_GUEST:-}" ${tunables:+GLIBC_TUNABLES="$tunables"} \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /lib/systemd/systemd --system --unit=life.service
