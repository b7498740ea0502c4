#!/bin/sh
# dpkg passes "configure" and, on an upgrade, the old version; rpm passes how many there are.
# The server is not started by being installed: that opens a port. One that runs is
# restarted as the new one, while the socket keeps who comes meanwhile.
set -e
case $1 in
configure) old=$2 ;;
1) old= ;;
2) old=yes ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
	if [ -n "$old" ]; then
		systemctl try-restart accio-server.service || true
	fi
fi
