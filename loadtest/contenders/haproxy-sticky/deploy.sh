#!/usr/bin/env bash
# The way that HAProxy's management guide has to take a server out of use, with a cookie: `ready` for
# the new one, `drain` for the old one (new clients no longer get there, those with its cookie do),
# wait for as long as their sessions last, which HAProxy does not know, then `maint`, then end the app.
# shellcheck source=../app.sh
. "$DIR/app.sh"

# api COMMANDS: says what the Runtime API answered, which is nothing when all is well.
api() {
  exec 3<> "/dev/tcp/127.0.0.1/$ADMIN"
  printf '%s\n' "$1" >&3
  cat <&3
  exec 3>&-
}

change() {
  local said
  said=$(api "$1" | tr -d '[:space:]')
  if [ -n "$said" ]; then
    echo "HAProxy answered to $1: $said" >&2
    exit 1
  fi
}

# The fifth column of `show stat` is the number of current sessions.
drained() {
  [ "$(api 'show stat' | grep "^app,$old_color," | cut -d, -f5)" = 0 ]
}

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
