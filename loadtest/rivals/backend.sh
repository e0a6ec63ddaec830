#!/bin/sh
# Runs nginx as the app of handoff: backend.sh PORT NGINX TEMPLATE PROTOCOL. The template is its
# configuration without addresses and folder, and stands beside the folder `files`; of its two
# addresses the one of the other protocol (http1, h2c) is a socket that nobody uses.
set -eu
dir=$(mktemp -d "$3.XXXXXX")
http1=127.0.0.1:$1
h2c=unix:$dir/other
[ "$4" = http1 ] || { http1=$h2c; h2c=127.0.0.1:$1; }
sed -e "s|127.0.0.1:{port}|$http1|g" -e "s|127.0.0.1:{green}|$h2c|g" -e "s|{dir}|$dir|g" "$3" > "$dir/nginx.conf"
ln -s "$(dirname "$3")/files" "$dir/files"
exec "$2" -e "$dir/error.log" -p "$dir" -c "$dir/nginx.conf"
