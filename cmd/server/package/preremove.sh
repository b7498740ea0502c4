#!/bin/sh
# dpkg passes "remove", or "upgrade" when a new version comes; rpm how many are left.
set -e
case $1 in
remove | 0) ;;
*) exit 0 ;;
esac
# No link to a unit that is gone is to be left, also where systemd does not run.
if command -v systemctl >/dev/null; then
	if [ -d /run/systemd/system ]; then
		systemctl stop accio-server.socket accio-server.service || true
	fi
	systemctl --no-reload --quiet disable accio-server.socket accio-server.service || true
fi
