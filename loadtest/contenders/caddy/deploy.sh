#!/usr/bin/env bash
# The way of Caddy's documentation: `caddy reload` with the new upstream, which changes the
# configuration without downtime. The old app is ended when the admin API tells of no request to it.
# shellcheck source=../app.sh
. "$DIR/app.sh"

# The API lists upstreams that are in use, each with the number of its requests.
drained() {
  local upstreams
  upstreams=$(curl --fail --silent --max-time 2 "http://127.0.0.1:$ADMIN/reverse_proxy/upstreams")
  ! grep -q "\"127.0.0.1:$old_port\",\"num_requests\":[1-9]" <<< "$upstreams"
}

turn
start_app "$1"
until_healthy
UPSTREAM=127.0.0.1:$port "$CADDY" reload --config "$DIR/Caddyfile" --adapter caddyfile \
  --address "127.0.0.1:$ADMIN"
if [ -n "$old_port" ]; then
  until_true 0.25 drained
fi
stop_old
