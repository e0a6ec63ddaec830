#!/usr/bin/env bash
# The way of nginx's "Changing Configuration": reload, upon which new workers take new connections
# and old ones finish theirs. The old app is ended when the last old worker has gone: until then a
# request that an old worker has could still be for it.
# shellcheck source=../app.sh
. "$DIR/app.sh"

nginx() {
  "$NGINX" -e "$DIR/nginx-error.log" -p "$DIR" -c "$DIR/nginx.conf" "$@"
}

old_workers_ended() {
  local worker
  for worker in $old_workers; do
    ended "$worker" || return 1
  done
}

turn
start_app "$1"
until_healthy
sed "s/{app}/$port/" "$DIR/upstream.template" > "$DIR/upstream.new"
mv "$DIR/upstream.new" "$DIR/upstream.conf"
nginx -t -q
old_workers=$(pgrep -P "$(cat "$DIR/nginx.pid")")
nginx -s reload
until_true 0.25 old_workers_ended
stop_old
