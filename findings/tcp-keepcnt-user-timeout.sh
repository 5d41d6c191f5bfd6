#!/usr/bin/env bash
# TCP_KEEPCNT does not count once TCP_USER_TIMEOUT is set (Linux; seen with 6.18).
#
# With keep-alive after 1 s, each further second, twice, a peer that has gone silent is found out
# after 3 s. Set TCP_USER_TIMEOUT to 8 s on the same socket, for data that is not acknowledged, and
# the idle connection lives for 8 s: the count of probes is not looked at any more, only whether the
# peer has been silent for the user time-out when a probe falls due. tcp(7) says of TCP_USER_TIMEOUT
# that it overrides keep-alive "to determine when to close a connection due to keepalive failure";
# that it lengthens the wait, or rounds it up to the next probe, is easily missed when both are set
# to be on the safe side.
#
#   findings/tcp-keepcnt-user-timeout.sh      exits 0 while it behaves so, 1 where it does not; needs root, unshare, ip, python3
set -euo pipefail
exec unshare --net python3 - <<'END'
import errno, platform, socket, subprocess, sys, time

def run(command):
    subprocess.run(command, shell=True, check=True)

# Rules come before the local table, so that what is sent to a port can be swallowed.
run("ip link set lo up; ip rule add pref 10 lookup local; ip rule del pref 0")
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()

def seconds_until_dead(user_timeout_ms):
    client = socket.create_connection(server.getsockname())
    peer, _ = server.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
        client.setsockopt(socket.IPPROTO_TCP, option, value)
    if user_timeout_ms:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, user_timeout_ms)
    run(f"ip rule add pref 1 ipproto tcp dport {client.getsockname()[1]} blackhole")
    began = time.monotonic()
    try:
        client.recv(1)
    except OSError as error:
        assert error.errno == errno.ETIMEDOUT, error
    return time.monotonic() - began

print("Linux", platform.release(), "TCP_KEEPIDLE=1 TCP_KEEPINTVL=1 TCP_KEEPCNT=2")
alone = seconds_until_dead(0)
print(f"alone:                     dead after {alone:.1f} s")
both = seconds_until_dead(8000)
print(f"with TCP_USER_TIMEOUT=8 s: dead after {both:.1f} s")
sys.exit(0 if alone < 5 and both > 7 else 1)
END
