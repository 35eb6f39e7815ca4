#!/bin/bash
# The life of the Debian package $1 in a copy of this system that vanishes at the end (an overlay, namespaces of its
# own for mounts, network and processes). Ends at the first command that fails, and names it.
set -eEu
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND" >&2; cat /var/log/keepalived-py/*.log >&2 2>/dev/null || true' ERR
if [ -z "${INSIDE:-}" ]; then
    area=$2
    mount -t tmpfs none "$area"
    mkdir "$area/upper" "$area/work" "$area/root"
    mount -t overlay none -o "lowerdir=/,upperdir=$area/upper,workdir=$area/work" "$area/root"
    mount -t proc none "$area/root/proc"
    mount -t sysfs none "$area/root/sys"
    mount -t tmpfs none "$area/root/run"
    mount --rbind /dev "$area/root/dev"
    mkdir -p "$area/root/package"
    cp "$1" "$area/root/package/package.deb"
    cp "$0" "$area/root/package/life"
    INSIDE=yes exec chroot "$area/root" /bin/bash /package/life /package/package.deb
fi

export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset PYTHONPATH VIRTUAL_ENV
service=/etc/init.d/keepalived-py
conf=/etc/keepalived/keepalived.conf
pid() { cat /run/keepalived.pid; }
step() { echo "== $*"; }
code() { # EXPECTED COMMAND...: runs the command
    local expected=$1 got=0
    shift
    "$@" || got=$?
    [ "$got" = "$expected" ] || { echo "$*: ended with $got, not with $expected" >&2; return 1; }
}
within() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    while ! "$@"; do
        [ "$SECONDS" -lt "$until" ] || { echo "never: $*" >&2; return 1; }
        sleep 0.1
    done
}
has() { ip addr show dev eth0 | grep -q "$1"; }
has_not() { ! has "$1"; }
install() { dpkg --force-unsafe-io -i "$1"; } # nothing here outlives the test
nothing_runs() { ! pgrep -f keepalived >/dev/null; }
instance() { # PRIORITY
    printf 'vrrp_instance VI_1 {\n interface eth0\n virtual_router_id 51\n priority %s\n advert_int 0.2\n version 3\n' "$1"
    printf ' virtual_ipaddress {\n  192.0.2.100/24\n }\n}\n'
}

# As on a machine with SysV init that lets packages start their services and has no configuration yet.
printf '#!/bin/sh\necho N 2\n' >/sbin/runlevel
chmod 755 /sbin/runlevel
rm -f /var/lib/man-db/auto-update
rm -rf /usr/sbin/policy-rc.d /etc/keepalived /etc/default/keepalived-py
ip link set lo up
ip link add eth0 type veth peer name eth1
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
files() { find /etc /usr /var /opt -xdev | grep -v -e '^/var/lib/dpkg' -e '^/var/cache' -e '^/var/tmp' | LC_ALL=C sort; }
before=$(files)

step install
install "$1"
$service status
first=$(pid)
[ "$(readlink "/proc/$first/exe")" != "" ]
test -s $conf
ls /etc/rc2.d/S*keepalived-py
keepalived-py --version
keepalived-py -T -h | grep -q use-virtualhost
keepalived-py -t
keepalivedctl lint $conf
keepalivedctl plan $conf $conf
zcat /usr/share/man/man8/keepalived-py.8.gz | grep -q genhash
dpkg -V keepalived-py

step reload
instance 150 >/etc/keepalived/conf.d/one.conf
$service reload
within 5 has 192.0.2.100
[ "$(pid)" = "$first" ]

step a broken file, and an upgrade with it
instance 300 >/etc/keepalived/conf.d/one.conf
code 6 $service restart
code 6 $service reload
install "$1"
[ "$(pid)" = "$first" ]
has 192.0.2.100

step upgrade
instance 150 >/etc/keepalived/conf.d/one.conf
install "$1"
$service status
[ "$(pid)" != "$first" ]
within 5 has 192.0.2.100

step one log per process, rotated without a signal
echo 'DAEMON_ARGS="-D -g/var/log/keepalived-py/keepalived.log"' >>/etc/default/keepalived-py
$service restart
within 5 has 192.0.2.100
grep -q 'Entering MASTER STATE' /var/log/keepalived-py/keepalived_vrrp.log
if [ -x /usr/sbin/logrotate ]; then
    logrotate -f -s /run/logrotate.state /etc/logrotate.d/keepalived-py
else
    for log in /var/log/keepalived-py/*.log; do mv "$log" "$log.1"; done
fi
ls /var/log/keepalived-py/keepalived_vrrp.log.1
$service reload
within 5 test -s /var/log/keepalived-py/keepalived.log

step stop and start
$service stop
within 5 nothing_runs
has_not 192.0.2.100
code 3 $service status
$service start
within 5 has 192.0.2.100

step remove
dpkg -r keepalived-py
within 5 nothing_runs
has_not 192.0.2.100
test -e $service
test -s /etc/keepalived/conf.d/one.conf
code 5 $service start 2>/dev/null

step purge
rm /etc/keepalived/conf.d/one.conf
dpkg -P keepalived-py
left=$(LC_ALL=C comm -13 <(echo "$before") <(files))
[ -z "$left" ] || { echo "left behind: $left" >&2; exit 1; }

step a configuration that was there before is left alone
mkdir -p /etc/keepalived
instance 150 >$conf
sum=$(md5sum $conf)
install "$1"
within 5 has 192.0.2.100
dpkg -P keepalived-py
within 5 nothing_runs
[ "$(md5sum $conf)" = "$sum" ]

step another daemon that is running stays
keepalived -n -f $conf -G >/dev/null 2>&1 &
within 5 pidof keepalived
install "$1" | grep 'was neither enabled nor started'
code 1 $service status
code 1 $service start
$service stop
dpkg -P keepalived-py
kill -0 "$(pid)"
[ "$(cat "/proc/$(pid)/comm")" = keepalived ]
echo "== all is well"
