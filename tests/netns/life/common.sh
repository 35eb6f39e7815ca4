# shellcheck shell=bash disable=SC2034
# Sourced by the lives: what they use, and the machine that they begin with.
set -eEu
trap 'echo "FAILED at line $LINENO: $BASH_COMMAND" >&2; cat /var/log/keepalived-py/*.log >&2 2>/dev/null || true' ERR
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin
unset PYTHONPATH VIRTUAL_ENV
conf=/etc/keepalived/keepalived.conf
unit=keepalived-py.service
pid() { cat /run/keepalived.pid; }
step() { echo "== $* (after $SECONDS s)"; }
code() { # EXPECTED COMMAND...: runs the command
    local expected=$1 got=0
    shift
    "$@" || got=$?
    [ "$got" = "$expected" ] || { echo "$*: ended with $got, not with $expected" >&2; return 1; }
}
shows() { systemctl show -P "$1" $unit; }
is() { [ "$(shows "$1")" = "$2" ]; }
says() { shows StatusText | grep -q "$1"; }
another() { [ "$(shows MainPID)" != "$1" ] && is ActiveState active; }
worker() { cat "/run/$1.pid"; }
kill_all() { # PARENT: as when a machine dies, so that no worker hears of the death of its parent
    local family
    family="$1 $(cat "/proc/$1/task/$1/children")"
    # shellcheck disable=SC2086 # the pids are words
    kill -STOP $family && kill -KILL $family
}
within() { # SECONDS COMMAND...
    local until=$((SECONDS + $1))
    shift
    while ! "$@"; do
        [ "$SECONDS" -lt "$until" ] || { echo "never: $*" >&2; return 1; }
        sleep 0.1
    done
}
has() { ip addr show dev "${2:-eth0}" 2>/dev/null | grep -q "$1"; } # ADDRESS [INTERFACE]
lacks() { ! grep "$@"; } # a command that begins with ! fails no script
has_not() { ! has "$@"; }
unpack() { dpkg --force-unsafe-io -i /life/*.deb; } # nothing here outlives the test
switch() { # from keepalived, as the installation said it, in /run/told
    local how
    how=$(sed -n 's/.* keepalived, then run: //p' /run/told)
    [ -n "$how" ]
    kill "$(pid)"
    within 20 nothing_runs
    eval "$how"
}
nothing_runs() { ! pgrep -f keepalived >/dev/null; }
instance() { # PRIORITY
    printf 'vrrp_instance VI_1 {\n interface eth0\n virtual_router_id 51\n priority %s\n advert_int 0.2\n version 3\n' "$1"
    printf ' virtual_ipaddress {\n  192.0.2.100/24\n }\n}\n'
}

# A machine that lets packages start their services and has no configuration yet.
rm -f /var/lib/man-db/auto-update
rm -rf /usr/sbin/policy-rc.d /etc/keepalived /etc/default/keepalived-py
ip link set lo up
ip link add eth0 type veth peer name eth1
ip addr add 192.0.2.1/24 dev eth0
ip link set eth0 up
ip link set eth1 up
files() { find /etc /usr /var /opt -xdev | grep -v -e '^/var/lib/dpkg' -e '^/var/cache' -e '^/var/tmp' | LC_ALL=C sort; }
leaves_nothing() {
    local left
    left=$(LC_ALL=C comm -13 <(echo "$before") <(files))
    [ -z "$left" ] || { echo "left behind: $left" >&2; return 1; }
}
