#!/bin/sh
# /var/lib/accio stays, whatever is removed: what is in it belongs to the user.
set -e
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
