#!/bin/sh
# Runs nginx as the app of handoff: backend.sh PORT NGINX TEMPLATE. The template is its configuration
# without port and folder, and stands beside the folder `files`.
set -eu
dir=$(mktemp -d "$3.XXXXXX")
sed -e "s|{port}|$1|g" -e "s|{dir}|$dir|g" "$3" > "$dir/nginx.conf"
ln -s "$(dirname "$3")/files" "$dir/files"
exec "$2" -e "$dir/error.log" -p "$dir" -c "$dir/nginx.conf"
