#!/usr/bin/env bash
# The way that HAProxy's management guide has to take a server out of use: `ready` for the new one,
# `drain` for the old one (no new requests; those in flight go on), wait until it has no session,
# then `maint`, then end the app.
# shellcheck source=./haproxy.sh
. "$DIR/haproxy.sh"

turn
start_app "$1"
until_healthy
if [ -z "$old_color" ]; then
  change "set server app/$color state ready"
else
  # In one line: between two, both would be ready, and clients would see both releases in turn.
  change "set server app/$color state ready; set server app/$old_color state drain"
  until_true 0.25 drained
  change "set server app/$old_color state maint"
fi
stop_old
