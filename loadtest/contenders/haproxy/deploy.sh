#!/usr/bin/env bash
# The way that HAProxy's management guide has to take a server out of use: `ready` for the new one,
# `drain` for the old one (no new requests; those in flight go on), wait until it has no session,
# then `maint`, then end the app.
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
