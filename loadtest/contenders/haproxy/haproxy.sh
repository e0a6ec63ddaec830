# HAProxy's Runtime API, for the deploy scripts with a cookie and without.
# shellcheck shell=bash
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
