#!/usr/bin/env bash
# Caddy 2.6.2 (Debian 12, caddy 2.6.2-5) answers a PUT for which it has no route with "200 OK" and
# an empty body.
#
# A request whose host no site block names, and one whose path no handler of its site matches, both
# end in an empty 200 (not 404 or 421), whatever the method. The body of the PUT is stored nowhere.
# A client that takes a 2xx to PUT for "stored" deletes its only copy after a typing error in a host
# name or a path. A HEAD of the same address is answered 200 as well, without a Content-Length.
#
#   findings/caddy-unrouted-put-200.sh      exits 0 while it behaves so, 1 where it does not; needs apt-get, dpkg, curl
set -euo pipefail
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || { kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; } || true; rm -rf "$work"' EXIT
cd "$work"
apt-get -q download caddy=2.6.2-5 >/dev/null 2>&1
dpkg -x caddy_*.deb .
for port in $(shuf -i 20000-32000 -n 20); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
done
cat >Caddyfile <<END
{
	admin off
	auto_https off
}
http://receiver.example:$port {
	bind 127.0.0.1
	respond /files/* "routed" 201
}
END
export XDG_DATA_HOME=$work/data XDG_CONFIG_HOME=$work/config HOME=$work
./usr/bin/caddy run --config Caddyfile --adapter caddyfile >caddy.log 2>&1 &
pid=$!
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
echo precious >file
put() { curl --silent --show-error --output body --write-out '%{http_code} %{size_download}' --header "Host: $1" --upload-file file "http://127.0.0.1:$port$2"; }
echo "caddy $(./usr/bin/caddy version)"
routed=$(put receiver.example /files/a)
other_path=$(put receiver.example /fils/a)
other_host=$(put reciever.example /files/a)
head=$(curl --silent --head --header 'Host: reciever.example' "http://127.0.0.1:$port/files/a" | tr -d '\r' | tr '\n' ' ')
echo "PUT with a route:             $routed (status, bytes of the body)"
echo "PUT to a path without one:    $other_path"
echo "PUT to a host without one:    $other_host"
echo "HEAD of the latter:           $head"
[ "$routed" = "201 6" ] && [ "$other_path" = "200 0" ] && [ "$other_host" = "200 0" ]
