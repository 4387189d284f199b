#!/bin/bash
# serve.sh DIR ADDRESS - serves DIR with nginx, at 16 MB/s per connection so that there is progress to see, until it is killed.
set -euo pipefail
dir=$(realpath "$1")
run=$(mktemp -d)
trap 'rm -rf "$run"' EXIT
cat > "$run/nginx.conf" <<END
daemon off;
$([ "$(id -u)" != 0 ] || echo "user root;")
pid $run/pid;
error_log stderr error;
events {}
http {
  access_log off;
  default_type application/octet-stream;
  client_body_temp_path $run/body; proxy_temp_path $run/proxy; fastcgi_temp_path $run/fastcgi;
  uwsgi_temp_path $run/uwsgi; scgi_temp_path $run/scgi;
  server {
    listen $2;
    root $dir;
    limit_rate 16m;
  }
}
END
nginx -e stderr -p "$run" -c "$run/nginx.conf" &
trap 'kill $!; wait; rm -rf "$run"' EXIT
wait
