#!/usr/bin/env bash
# The way of Kamal: start the new app, `kamal-proxy deploy`, end the old app. The proxy itself waits
# until the new one is healthy, switches, and waits until the old one is drained. Its intervals and
# timeouts are its defaults; the path of its health check is named, as the app has no /up.
#
# It is started with `kamal-proxy run --http-port $PORT` (it has no configuration file). Its log of
# every request cannot be turned off; it goes to /dev/null.
# shellcheck source=../app.sh
. "$DIR/app.sh"

turn
start_app "$1"
"$KAMAL_PROXY" deploy app --target "127.0.0.1:$port" --health-check-path /health
stop_old
