#!/bin/bash
# The life of the Debian package on a machine with a SysV init. Ends at the first command that fails, and names it.
printf '#!/bin/sh\necho N 2\n' >/sbin/runlevel # as a SysV init says it
chmod 755 /sbin/runlevel
# shellcheck source=common.sh
. /life/common.sh

service=/etc/init.d/keepalived-py

before=$(files)
step install
unpack
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
mkdir -p /run/app/workers /run/app/ipc
touch /run/app/workers/__init__.py /run/app/ipc/__init__.py # another program's, of the same names
PYTHONPATH=/run/app PYTHONHOME=/run/app keepalived-py -t

step reload
instance 150 >/etc/keepalived/conf.d/one.conf
$service reload
within 5 has 192.0.2.100
[ "$(pid)" = "$first" ]

step a broken file, and an upgrade with it
instance 300 >/etc/keepalived/conf.d/one.conf
code 6 $service restart
code 6 $service reload
unpack
[ "$(pid)" = "$first" ]
has 192.0.2.100

step upgrade
instance 150 >/etc/keepalived/conf.d/one.conf
chmod 700 /etc/keepalived/conf.d
unpack
[ "$(stat -c %a /etc/keepalived/conf.d)" = 700 ]
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

step install again
unpack
within 5 has 192.0.2.100
$service status

step purge
rm /etc/keepalived/conf.d/one.conf
dpkg -P keepalived-py
leaves_nothing

step a configuration that was there before is left alone
mkdir -p /etc/keepalived
instance 150 >$conf
sum=$(md5sum $conf)
unpack
within 5 has 192.0.2.100
dpkg -P keepalived-py
within 5 nothing_runs
[ "$(md5sum $conf)" = "$sum" ]

step what an administrator deleted or put elsewhere is no hindrance
unpack
$service stop
rm $service
mv /etc/keepalived /srv/keepalived
ln -s /srv/keepalived /etc/keepalived
dpkg -r keepalived-py
[ -L /etc/keepalived ]
dpkg -P keepalived-py
[ "$(md5sum $conf)" = "$sum" ]

step another daemon that is running stays
keepalived -n -f $conf -G >/dev/null 2>&1 &
within 5 pidof keepalived
unpack | tee /run/told | grep 'was neither enabled nor started'
code 1 $service status
code 1 $service start
$service stop
kill -0 "$(pid)"
[ "$(cat "/proc/$(pid)/comm")" = keepalived ]

step and is switched as it was told
switch
ls /etc/rc2.d/S*keepalived-py
$service status
within 5 has 192.0.2.100
dpkg -P keepalived-py
echo "== all is well"
