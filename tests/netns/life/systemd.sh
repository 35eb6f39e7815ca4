#!/bin/bash
# The life of the Debian package on a machine whose init is systemd. Ends at the first command that fails, and names it.
# shellcheck source=common.sh
. /life/common.sh

log=/var/log/keepalived-py
logged() { grep -q "$1" $log/*.log; }

before=$(files)
step install
unpack
is ActiveState active
is UnitFileState enabled
says 'configuration 1'
first=$(shows MainPID)
[ "$(pid)" = "$first" ]
dpkg -V keepalived-py

step everything that a configuration may ask for, in the hardened unit
useradd -r keepalived_script
printf '#!/bin/sh\necho "$(id -un) $2 $3 $PPID" >>/run/scripts/told\n' >/usr/local/bin/tell
if command -v sudo >/dev/null; then
    echo 'keepalived_script ALL = (root) NOPASSWD: /usr/bin/id' >/etc/sudoers.d/tell
    echo 'sudo -n /usr/bin/id -un >>/run/scripts/sudo 2>&1' >>/usr/local/bin/tell
fi
printf '#!/bin/sh\nexit 0\n' >/usr/local/bin/fine
chmod 755 /usr/local/bin/tell /usr/local/bin/fine
install -d -o keepalived_script /run/scripts
cat >/etc/keepalived/conf.d/globals.conf <<END
global_defs {
    enable_script_security
    vrrp_rt_priority 10
    vrrp_no_swap
    checker_priority -5
    vrrp_notify_fifo /run/scripts/fifo keepalived_script
}
vrrp_script fine {
    script /usr/local/bin/fine
    interval 1
}
static_routes {
    198.51.100.0/24 via 192.0.2.9 dev eth0
}
END
router() { # PRIORITY
    instance "$1" | sed -e 's|^}||' -e '/^$/d'
    printf ' use_vmac\n notify /usr/local/bin/tell\n track_script {\n  fine\n }\n}\n'
}
router 150 >/etc/keepalived/conf.d/one.conf
echo "DAEMON_ARGS=\"-D -g$log/keepalived.log\"" >>/etc/default/keepalived-py
systemctl restart $unit
within 20 has 192.0.2.100 vrrp.51
within 20 grep -q '^keepalived_script VI_1 MASTER' /run/scripts/told
[ "$(stat -c %U /run/scripts/fifo)" = keepalived_script ]
if command -v sudo >/dev/null; then
    within 20 grep -qx root /run/scripts/sudo
    lacks -vx root /run/scripts/sudo # it says there what it was not allowed
fi
chrt -p "$(worker vrrp)" | grep -q 'priority: 10'
grep -q 'VmLck:.* [1-9]' "/proc/$(worker vrrp)/status"
ip route show | grep -q 198.51.100.0/24
lacks -E 'Missing|refused|Operation not permitted|Permission denied|Traceback' $log/*.log

step reload
first=$(shows MainPID)
sed -i 's|192.0.2.100/24|&\n  192.0.2.101/24|' /etc/keepalived/conf.d/one.conf
systemctl reload $unit
within 20 has 192.0.2.101 vrrp.51
within 20 is ActiveState active
says 'configuration 2'
is MainPID "$first"

step a broken file
sed -i 's|priority 150|priority 300|' /etc/keepalived/conf.d/one.conf
systemctl reload $unit
within 20 says 'last reload refused (New configuration has 1 error)'
within 20 is ActiveState active
for verb in restart try-restart reload force-reload; do
    code 6 /etc/init.d/keepalived-py $verb
done
unpack | grep 'not restarted'
is MainPID "$first"
has 192.0.2.100 vrrp.51
sed -i 's|priority 300|priority 150|' /etc/keepalived/conf.d/one.conf
systemctl reload $unit
within 20 says 'configuration 3, VRRP'

step the worker is killed
kill -9 "$(worker vrrp)"
within 20 logged Respawning
has 192.0.2.100 vrrp.51
is MainPID "$first"
within 20 says "VRRP $(worker vrrp)"

step the parent is killed
kill -9 "$first"
within 20 another "$first"
within 20 has 192.0.2.100 vrrp.51
is NRestarts 1

step all are killed
first=$(shows MainPID)
kill_all "$first"
has 192.0.2.100 vrrp.51
within 20 another "$first"
within 20 has 192.0.2.101 vrrp.51
is NRestarts 2

step the parent hangs
mkdir -p /etc/systemd/system/$unit.d
printf '[Service]\nWatchdogSec=1\nTimeoutAbortSec=2\n' >/etc/systemd/system/$unit.d/watchdog.conf
systemctl daemon-reload
/etc/init.d/keepalived-py restart
first=$(shows MainPID)
kill -STOP "$first"
within 30 another "$first"
within 20 has 192.0.2.100 vrrp.51

step stop
systemctl stop $unit
is ExecMainStatus 0
is Result success
[ -z "$(ip link show type macvlan)$(ip route show proto 18)" ]
nothing_runs
systemctl start $unit
within 20 has 192.0.2.100 vrrp.51

step a restart with a broken file, and the last good configuration
cp /etc/default/keepalived-py /run/default
echo "DAEMON_ARGS=\"-g$log/keepalived.log --last-good=/var/lib/keepalived-py/last-good.conf\"" >>/etc/default/keepalived-py
systemctl restart $unit
within 20 has 192.0.2.100 vrrp.51
echo 'nonsense' >/etc/keepalived/conf.d/two.conf
systemctl restart $unit
within 20 has 192.0.2.100 vrrp.51
logged 'the last good one is taken'
cp /run/default /etc/default/keepalived-py

step what no restart can change
echo 'vrrp_instance X { interface' >/etc/keepalived/conf.d/two.conf
code 1 systemctl restart $unit
is ActiveState failed
is ExecMainStatus 2
rm /etc/keepalived/conf.d/two.conf

step purge
rm /etc/keepalived/conf.d/*.conf
dpkg -P keepalived-py
rm -rf /etc/systemd/system/$unit.d /etc/sudoers.d/tell /usr/local/bin/tell /usr/local/bin/fine
leaves_nothing

step another daemon that is running stays, and is switched as it was told
mkdir -p /etc/keepalived
instance 150 >$conf
keepalived -n -f $conf -G >/dev/null 2>&1 &
within 20 has 192.0.2.100
unpack | tee /run/told | grep 'was neither enabled nor started'
is MainPID 0
is UnitFileState disabled
[ "$(cat "/proc/$(pid)/comm")" = keepalived ]
switch
is ActiveState active
is UnitFileState enabled
within 20 has 192.0.2.100

step tools that know the unit by the name keepalived
systemctl stop $unit
ln -s /usr/lib/systemd/system/$unit /etc/systemd/system/keepalived.service
systemctl daemon-reload
systemctl start keepalived
within 20 has 192.0.2.100
[ "$(systemctl is-active keepalived)" = active ]
first=$(shows MainPID)
systemctl reload keepalived
within 20 says 'configuration 2'
systemctl restart keepalived
another "$first"
within 20 has 192.0.2.100
rm /etc/systemd/system/keepalived.service
dpkg -P keepalived-py
echo "== all is well"
