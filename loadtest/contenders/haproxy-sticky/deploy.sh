#!/usr/bin/env bash
# The way that HAProxy's management guide has to take a server out of use, with a cookie: `ready` for
# the new one, `drain` for the old one (new clients no longer get there, those with its cookie do),
# wait for as long as their sessions last, which HAProxy does not know, then `maint`, then end the app.
# shellcheck source=../haproxy/haproxy.sh
. "$DIR/haproxy.sh"

# As long as handoff is told to let sessions go on.
session_time=7

turn
start_app "$1"
until_healthy
if [ -z "$old_color" ]; then
  change "set server app/$color state ready"
else
  # In one line: between two, both would be ready, and clients would see both releases in turn.
  change "set server app/$color state ready; set server app/$old_color state drain"
  sleep "$session_time"
  change "set server app/$old_color state maint"
  until_true 0.25 drained
fi
stop_old
