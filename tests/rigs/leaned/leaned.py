"""A receiver over a store of 300,000 archives, under 512 downloads of one host, with two archives
that expand to 256 GiB each and flushes that fail. /healthz tells the truth within a second; a
scrape and an upload wait for no walk; a stop takes seconds.
"""

import argparse
import base64
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

SECOND = 1.0
HOSTS = ["alpha", "beta", "gamma"]
MTIME_NS = 1_700_000_000_000_000_000


def digest(content):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(content).digest()).decode() + ":"


def bomb(content_bytes):
    """A zstd frame of blocks that each repeat one byte 128 Ki times (RFC 8878, section 3.1.1)."""
    block = 128 << 10
    header = lambda last: ((block << 3) | (1 << 1) | last).to_bytes(3, "little") + b"\0"
    blocks = content_bytes // block
    return b"\x28\xb5\x2f\xfd\0\x38" + header(0) * (blocks - 1) + header(1)


def fill(store, archives):
    for folder in ["episodes", "receipts"]:
        os.makedirs(f"{store}/{folder}")
    sha256 = hashlib.sha256(b"archive").hexdigest()
    for n in range(archives):
        name = f"old-{n}"
        archive = f"{store}/episodes/{name}.tar.zst"
        with open(archive, "wb") as file:
            file.write(b"archive")
        os.utime(archive, ns=(MTIME_NS, MTIME_NS))
        receipt = {
            "episode_id": name,
            "sha256": sha256,
            "size_bytes": 7,
            "archive_mtime_ns": MTIME_NS,
            "content": "unknown",
            "owner": HOSTS[n % 3],
        }
        with open(f"{store}/receipts/{name}.json", "w") as file:
            json.dump(receipt, file)


class Receiver:
    def __init__(self, sealift, work):
        self.log = open(f"{work}/receiver.log", "w+")
        tokens = "".join(
            f'{host} = "{hashlib.sha256(host.encode()).hexdigest()}"\n' for host in HOSTS
        )
        with open(f"{work}/tokens", "w") as file:
            file.write(tokens)
        with open(f"{work}/receiver.toml", "w") as file:
            file.write(
                f'[receive]\nlisten = "127.0.0.1:0"\nstore = "{work}/store"\n'
                f'tokens_file = "{work}/tokens"\nhost_quota_bytes = 1000000000000\n'
            )
        command = [sealift, "receive", "--config", f"{work}/receiver.toml"]
        environment = {**os.environ, "NO_COLOR": "1"}
        self.process = subprocess.Popen(command, stderr=self.log, env=environment)
        deadline = time.monotonic() + 30
        while True:
            with open(f"{work}/receiver.log") as log:
                found = re.search(r"local_addr=127\.0\.0\.1:(\d+)", log.read())
            if found:
                self.port = int(found[1])
                return
            assert time.monotonic() < deadline and self.process.poll() is None, "it does not start"

    def connect(self, head, body=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        lines = "".join(f"{name}: {value}\r\n" for name, value in head[2].items())
        request = f"{head[0]} {head[1]} HTTP/1.1\r\nHost: receiver\r\n{lines}\r\n"
        connection.sendall(request.encode() + body)
        return connection

    def ask(self, method, path, headers={}, body=b""):
        """The status, the body, and how many seconds that took."""
        began = time.monotonic()
        with self.connect((method, path, {**headers, "Connection": "close"}), body) as connection:
            answer = b""
            while piece := connection.recv(1 << 16):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode(), time.monotonic() - began

    def put(self, host, name, archive, more={}):
        headers = {
            "Authorization": f"Bearer {host}",
            "Content-Length": len(archive),
            "Repr-Digest": digest(archive),
            **more,
        }
        return ("PUT", f"/v1/episodes/{name}", headers)

    def health(self, expected, tries):
        slowest = 0
        for _ in range(tries):
            status, _, took = self.ask("GET", "/healthz")
            slowest = max(slowest, took)
            assert status == expected, f"healthz says {status}, and not {expected}"
        return slowest


def within_a_second(what, took):
    print(f"{what}: {took * 1000:.0f} ms", flush=True)
    assert took < SECOND, f"{what}: {took:.1f} s"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--archives", type=int, default=300_000)
    arguments.add_argument("--downloads", type=int, default=512)
    arguments.add_argument("sealift")
    arguments.add_argument("work")
    arguments = arguments.parse_args()

    fill(f"{arguments.work}/store", arguments.archives)
    if os.geteuid() == 0:
        os.sync()
        try:
            with open("/proc/sys/vm/drop_caches", "w") as file:
                file.write("3")
        except OSError:
            print("the caches cannot be dropped: the store is walked warm")
    receiver = Receiver(arguments.sealift, arguments.work)
    try:
        lean(receiver, arguments)
    finally:
        receiver.process.kill()


def until(what, holds, seconds=30):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def expand(receiver, name):
    """Two hosts ask whether an archive that expands to 256 GiB holds what they would send."""
    archive = bomb(256 << 30)
    claim = {"Sealift-Content-Digest": digest(b"what is in it")}
    asking = []
    for host in ["alpha", "beta"]:
        episode = f"{name}-of-{host}"
        assert receiver.ask(*receiver.put(host, episode, archive, claim), archive)[0] == 201
        again = receiver.put(host, episode, b"another", {**claim, "Expect": "100-continue"})
        asking.append(receiver.connect(again))
    under_way = "sealift_receiver_requests_in_flight 2\n"
    until("they are not asked about", lambda: under_way in receiver.ask("GET", "/metrics")[1])
    return asking


def lean(receiver, arguments):
    # The first walk is under way.
    slowest = receiver.health(200, 1)
    print(f"the first answer: {slowest * 1000:.0f} ms")
    assert slowest < 2 * SECOND
    with ThreadPoolExecutor(20) as pool:
        scrapes = pool.map(lambda _: receiver.ask("GET", "/metrics")[2], range(20))
        within_a_second("the slowest of twenty scrapes at once", max(scrapes))
    small = os.urandom(1000)
    put = receiver.put("alpha", "small", small)
    status, _, took = receiver.ask(*put, small)
    assert status == 201, status
    within_a_second("an upload under a quota", took)

    large = os.urandom(64 << 20)
    assert receiver.ask(*receiver.put("gamma", "large", large), large)[0] == 201
    expanding = expand(receiver, "first")
    bearer = {"Authorization": "Bearer gamma"}
    downloads = [
        receiver.connect(("GET", "/v1/episodes/large", bearer)) for _ in range(arguments.downloads)
    ]
    answered = [int(download.recv(12).split()[1]) for download in downloads]
    under_way = answered.count(200)
    print(f"downloads under way: {under_way}; turned away: {answered.count(503)}")
    assert under_way == min(64, arguments.downloads) and under_way + answered.count(503) == len(answered)
    within_a_second("the slowest of a hundred healthz", receiver.health(200, 100))
    within_a_second("a scrape", receiver.ask("GET", "/metrics")[2])

    known = f"store_episodes {arguments.archives + 4}\n"
    summed_up = lambda: known in receiver.ask("GET", "/metrics")[1]
    until("the store is not summed up", summed_up, seconds=300)

    for download in downloads:
        download.close()
    inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
    process = str(receiver.process.pid)
    strace = subprocess.Popen(["strace", "-f", "-qq", *inject, "-p", process], stderr=subprocess.DEVNULL)
    health = lambda: receiver.ask("GET", "/healthz")[0]
    until("it is not said that flushes fail", lambda: health() == 500)
    within_a_second("the slowest of ten healthz while flushes fail", receiver.health(500, 10))
    strace.send_signal(signal.SIGTERM)
    strace.wait()
    until("it is not said that they do so no more", lambda: health() == 200)

    for connection in expanding:
        connection.close()
    expanding = expand(receiver, "second")
    began = time.monotonic()
    receiver.process.send_signal(signal.SIGTERM)
    assert receiver.process.wait(30) == 0
    took = time.monotonic() - began
    print(f"stopped, while two archives expand: {took * 1000:.0f} ms")
    assert took < 5
    assert [int(waiting.recv(12).split()[1]) for waiting in expanding] == [503, 503]
    print("ok")


if __name__ == "__main__":
    sys.exit(main())
