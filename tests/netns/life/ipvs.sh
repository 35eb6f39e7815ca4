#!/bin/bash
# The hardened unit and IPVS, with the unit file beside this. Ends at the first command that fails, and names it.
# shellcheck source=common.sh
. /life/common.sh

rows() { ipvsadm -Sn; }
shown() { rows | grep -q -e "$1"; }
service() { # REAL...
    printf 'virtual_server 192.0.2.100 80 {\n protocol TCP\n delay_loop 1\n'
    printf ' real_server 192.0.2.1 %s {\n  weight 5\n }\n' "$@"
    printf '}\n'
}

mkdir -p /etc/keepalived /run/systemd/system
cp /life/$unit /run/systemd/system
systemctl daemon-reload
{ instance 150; service 8001; } >$conf

step start
systemctl start $unit
shown '-r 192.0.2.1:8001 -m -w 5'
within 20 has 192.0.2.100

step reload
first=$(shows MainPID)
{ instance 150; service 8001 8002; } >$conf
systemctl reload $unit
within 20 shown 192.0.2.1:8002
within 20 says 'configuration 2'

step all are killed
before=$(rows)
kill_all "$first"
[ "$(rows)" = "$before" ]
within 30 another "$first"
[ "$(rows)" = "$before" ]
within 20 has 192.0.2.100

step stop
systemctl stop $unit
[ -z "$(rows)" ]
has_not 192.0.2.100
echo "== all is well"
