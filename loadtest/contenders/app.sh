# What the deploy scripts of all contenders have in common. Each sources this, so that what differs
# between contenders is the proxy alone. `loadtest compare` sets DIR (a folder for files), RELEASES
# (each release is a program v<n> in it), BLUE and GREEN (ports for the app), ADMIN (a port for the
# proxy's own commands) and PORT (where clients connect). The number of the release is $1.
# shellcheck shell=bash
set -euo pipefail

# How long anything is waited for: as long as handoff would give a drain (30 s).
PATIENCE=30

# Apps take turns on two ports. Sets color and port of the new one, and old_* of the one before.
turn() {
  old_pid='' old_port='' old_color=''
  if [ -f "$DIR/serves" ]; then
    # shellcheck disable=SC2034 # Some contenders need it.
    read -r old_pid old_port old_color < "$DIR/serves"
  fi
  if [ "$old_color" = blue ]; then
    color=green port=$GREEN
  else
    color=blue port=$BLUE
  fi
}

start_app() {
  "$RELEASES/v$1" -port "$port" >> "$DIR/app.log" 2>&1 &
  pid=$!
}

# `kill -0` would take one that has ended and was not collected for running.
runs() {
  [ -d "/proc/$1" ] && ! grep -qs '^State:.Z' "/proc/$1/status"
}

# until_true PAUSE COMMAND...: asks after each pause. How soon an app is found ready counts; how soon
# it is found idle does not, and asking costs requests the time of two processors.
until_true() {
  local end=$((SECONDS + PATIENCE)) pause=$1
  shift
  until "$@"; do
    if [ "$SECONDS" -ge "$end" ]; then
      echo "not within $PATIENCE s: $*" >&2
      return 1
    fi
    sleep "$pause"
  done
}

healthy() {
  if ! runs "$pid"; then
    echo "the app ended; the last it said:" >&2
    tail -n 5 "$DIR/app.log" >&2
    exit 1
  fi
  curl --fail --silent --max-time 2 --output /dev/null "http://127.0.0.1:$port/health"
}

until_healthy() {
  until_true 0.02 healthy
}

ended() {
  ! runs "$1"
}

# Ends the app before as a service manager does: SIGTERM, upon which it finishes what it has. From
# here on the new one is the one that serves.
stop_old() {
  echo "$pid $port $color" > "$DIR/serves"
  if [ -n "$old_pid" ] && runs "$old_pid"; then
    kill -TERM "$old_pid"
    until_true 0.02 ended "$old_pid"
  fi
}
