#!/usr/bin/env python3
"""Measures Sealift beside what people use in its place, in one run, turn and turn about.

    benches/peers/run.py [--install] [--rounds N] [--size MIB] [--backlog N] [--old SEALIFT] [ROW ...]

Rows: large, small, backlog (all of them where none is named). `--install` fetches what is missing
(nginx, zstd, inotify-tools, curl) from Debian's packages; root is asked for by that alone. `--old`
is an earlier build, measured beside this one.

Everything lies in one folder below TMPDIR, on one file system, and goes over loopback. What is
printed is the median of the rounds, and its ratio to the row that is marked. `sealift` and `sealift
receive` flush all that they acknowledge; nginx, curl and tar flush nothing.
"""

import argparse
import ctypes
import ctypes.util
import http.client
import os
import pathlib
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PACKAGES = ["nginx-light", "libnginx-mod-http-dav-ext", "zstd", "inotify-tools", "curl"]
NEEDED = ["nginx", "zstd", "inotifywait", "curl", "tar", "sha256sum"]
NGINX, OURS = 18601, 18602
LIMIT_S = 600


def sample(folder, size_bytes, seed):
    """45 % JSON lines, 35 % floats of a slow sensor, 20 % noise: what a robot records."""
    dice = random.Random(seed)
    folder.mkdir(parents=True)
    parts = [("log.jsonl", 0.45, lines), ("lidar.f32", 0.35, floats), ("camera.raw", 0.2, noise)]
    for name, share, make in parts:
        left = int(size_bytes * share)
        block = make(dice, min(left, 8 << 20))
        with open(folder / name, "wb") as file:
            while left > 0:
                # Blocks differ, so that no compressor's window joins them.
                turned = block[dice.randrange(len(block)):] + block
                file.write(turned[:min(left, len(block))])
                left -= len(block)


def lines(dice, size_bytes):
    text, row = [], 0
    length = 0
    while length < size_bytes:
        line = '{"t":%.6f,"joint":%d,"torque":%.4f,"state":"%s"}\n' % (
            row / 500, row % 7, dice.gauss(0, 3), dice.choice(["run", "run", "run", "hold"]))
        text.append(line)
        length += len(line)
        row += 1
    return "".join(text).encode()[:size_bytes]


def floats(dice, size_bytes):
    value, out = 0.0, bytearray()
    while len(out) < size_bytes:
        value += dice.gauss(0, 0.01)
        out += struct.pack("<f", value)
    return bytes(out[:size_bytes])


def noise(dice, size_bytes):
    return dice.randbytes(size_bytes)


class Place:
    """A data folder, a store and a server's folder, all new."""

    def __init__(self, root, name):
        self.root = root / name
        for folder in ("data/episodes", "data/outbox", "data/shipped", "data/quarantine", "web", "tmp", "store"):
            (self.root / folder).mkdir(parents=True)

    def episodes(self):
        return self.root / "data/episodes"

    def seal(self, episode):
        (episode / "done.marker").touch()


def run_nginx(place):
    config = place.root / "nginx.conf"
    config.write_text(f"""
daemon off; pid {place.root}/nginx.pid; error_log {place.root}/error.log; worker_processes 2;
{"user root;" if os.geteuid() == 0 else ""}
events {{}}
http {{
  access_log off; client_body_temp_path {place.root}/tmp; client_max_body_size 0;
  server {{ listen 127.0.0.1:{NGINX}; root {place.root}/web;
    location / {{ dav_methods PUT DELETE; create_full_put_path on; }} }}
}}
""")
    return started(["nginx", "-p", str(place.root), "-c", str(config)], NGINX)


def run_receiver(place, sealift):
    config = place.root / "receive.toml"
    config.write_text(f'[receive]\nlisten = "127.0.0.1:{OURS}"\nstore = "{place.root}/store"\nmin_free_bytes = 1000000\n')
    return started([sealift, "receive", "--config", str(config)], OURS)


def run_shipper(place, sealift, url, more=""):
    config = place.root / "ship.toml"
    config.write_text(f'[shipper]\ndata_dir = "{place.root}/data"\n[receiver]\nurl = "{url}"\n{more}')
    log = open(place.root / "ship.log", "wb")
    return subprocess.Popen([sealift, "ship", "--config", str(config)], stdout=log, stderr=log)


def started(command, port):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return process
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.02)
    sys.exit(f"{command[0]} does not answer")


def stop(process):
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


def peak_mib(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def wait_for(path, process=None):
    until = time.monotonic() + LIMIT_S
    while not path.exists():
        if time.monotonic() > until or (process and process.poll() is not None):
            sys.exit(f"{path} does not appear")
        time.sleep(0.001)


def wait_for_count(folder, count):
    until = time.monotonic() + LIMIT_S
    while len(os.listdir(folder)) < count:
        if time.monotonic() > until:
            sys.exit(f"{folder} does not come to {count}")
        time.sleep(0.005)


def is_watching(place):
    """The shipper has looked around, and hears of what is sealed from now on."""
    first = place.episodes() / "warm"
    first.mkdir()
    (first / "data").write_bytes(b"x" * 65536)
    place.seal(first)
    wait_for(place.root / "data/shipped/warm")


class Shipper:
    """`sealift ship`, to our receiver or to nginx."""

    def __init__(self, sealift, to, more=""):
        self.sealift, self.to, self.more = sealift, to, more

    def __enter__(self):
        return self

    def start(self, place):
        url = {"ours": f"http://127.0.0.1:{OURS}", "nginx": f"http://127.0.0.1:{NGINX}/{{id}}.tar.zst"}[self.to]
        self.server = run_receiver(place, self.sealift) if self.to == "ours" else run_nginx(place)
        self.process = run_shipper(place, self.sealift, url, self.more)

    def stored(self, place, name):
        if self.to == "ours":
            return place.root / "store/episodes" / f"{name}.tar.zst"
        return place.root / "web" / f"{name}.tar.zst"

    def stored_folder(self, place):
        return place.root / ("store/episodes" if self.to == "ours" else "web")

    def stop(self):
        stop(self.process)
        stop(self.server)


def large_by_shipper(root, content, sealift, to, more=""):
    place = Place(root, "place")
    shipper = Shipper(sealift, to, more)
    shipper.start(place)
    is_watching(place)
    episode = place.episodes() / "run"
    shutil.copytree(content, episode, copy_function=os.link)
    began = time.monotonic()
    place.seal(episode)
    wait_for(place.root / "data/shipped/run", shipper.process)
    # The receipt says when it was acknowledged; the move after it is not in the figure.
    took = (place.root / "data/shipped/run/shipping_receipt.json").stat().st_mtime - time.time() + time.monotonic() - began
    mib = peak_mib(shipper.process)
    shipper.stop()
    return took, mib


def large_by_pipe(root, content, pipe):
    place = Place(root, "place")
    server = run_nginx(place)
    command = pipe.format(url=f"http://127.0.0.1:{NGINX}/run.tar.zst", tmp=place.root / "tmp")
    began = time.monotonic()
    subprocess.run(["bash", "-c", "set -o pipefail; " + command], cwd=content, check=True, stdout=subprocess.DEVNULL)
    took = time.monotonic() - began
    stop(server)
    return took, None


SCRIPT = """
inotifywait -qmr -e create --format '%w' {episodes} | while read -r folder; do
  [ -e "$folder/done.marker" ] || continue
  id=$(basename "$folder")
  tar -C {episodes} -cf - "$id" | zstd -q -3 >{out}/$id.tar.zst && sync {out}/$id.tar.zst &&
  curl -sf -T {out}/$id.tar.zst {url}/$id.tar.zst >/dev/null && mv {episodes}/$id {shipped}/
done
"""


class Script:
    """What people write: inotifywait, tar, zstd, sync, curl."""

    def start(self, place):
        self.server = run_nginx(place)
        text = SCRIPT.format(
            episodes=place.episodes(), out=place.root / "data/outbox",
            shipped=place.root / "data/shipped", url=f"http://127.0.0.1:{NGINX}")
        self.process = subprocess.Popen(["bash", "-c", text], start_new_session=True)
        time.sleep(0.5)

    def stored(self, place, name):
        return place.root / "web" / f"{name}.tar.zst"

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait()
        stop(self.server)


def small_by(root, kind, count=40):
    place = Place(root, "place")
    kind.start(place)
    if isinstance(kind, Shipper):
        is_watching(place)
    times = []
    for n in range(count):
        episode = place.episodes() / f"run-{n:03}"
        episode.mkdir()
        (episode / "data").write_bytes(random.Random(n).randbytes(32768) + b"joint " * 5461)
        stored = kind.stored(place, episode.name)
        time.sleep(0.02)
        began = time.monotonic()
        place.seal(episode)
        wait_for(stored)
        times.append(time.monotonic() - began)
    kind.stop()
    return times


def small_limit(root, count=40):
    """Read, compress, PUT on a warm connection, and nothing else."""
    zstd = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
    place = Place(root, "place")
    server = run_nginx(place)
    connection = http.client.HTTPConnection("127.0.0.1", NGINX)
    out = ctypes.create_string_buffer(1 << 20)
    times = []
    for n in range(count + 1):
        path = place.root / f"data-{n}"
        path.write_bytes(random.Random(n).randbytes(32768) + b"joint " * 5461)
        began = time.monotonic()
        content = path.read_bytes()
        size = zstd.ZSTD_compress(out, len(out), content, len(content), 3)
        connection.request("PUT", f"/run-{n}.tar.zst", body=out.raw[:size])
        connection.getresponse().read()
        times.append(time.monotonic() - began)
    stop(server)
    return times[1:]


def backlog_by_shipper(root, sealift, to, count):
    place = Place(root, "place")
    for n in range(count):
        episode = place.episodes() / f"run-{n:06}"
        episode.mkdir()
        (episode / "data").write_bytes(random.Random(n).randbytes(8192) + b"joint " * 1365)
        place.seal(episode)
    os.sync()
    shipper = Shipper(sealift, to)
    began = time.monotonic()
    shipper.start(place)
    wait_for_count(place.root / "data/shipped", count)
    took = time.monotonic() - began
    mib = peak_mib(shipper.process)
    shipper.stop()
    return count / took, mib


def backlog_by_script(root, count):
    place = Place(root, "place")
    server = run_nginx(place)
    out, url = place.root / "data/outbox", f"http://127.0.0.1:{NGINX}"
    for n in range(count):
        episode = place.episodes() / f"run-{n:06}"
        episode.mkdir()
        (episode / "data").write_bytes(random.Random(n).randbytes(8192) + b"joint " * 1365)
    began = time.monotonic()
    text = f"""for folder in {place.episodes()}/*; do id=$(basename $folder)
      tar -C {place.episodes()} -cf - $id | zstd -q -3 >{out}/$id.tar.zst && sync {out}/$id.tar.zst &&
      curl -sf -T {out}/$id.tar.zst {url}/$id.tar.zst >/dev/null && mv $folder {place.root}/data/shipped/; done"""
    subprocess.run(["bash", "-c", text], check=True)
    took = time.monotonic() - began
    stop(server)
    return count / took, None


def fresh(root):
    shutil.rmtree(root / "place", ignore_errors=True)


def rounds(root, rows, count):
    """Each row once a round, so that what else the machine does is everybody's."""
    results = {name: [] for name, _ in rows}
    for _ in range(count):
        for name, measure in rows:
            fresh(root)
            results[name].append(measure())
    fresh(root)
    return results


def print_rows(title, results, base, unit, better):
    print(f"\n{title}\n")
    print(f"| what | median {unit} | beside {base} | peak MiB |\n|---|---|---|---|")
    middle = {name: statistics.median(value for value, _ in values) for name, values in results.items()}
    for name, values in results.items():
        peaks = [mib for _, mib in values if mib]
        peak = f"{statistics.median(peaks):.0f}" if peaks else ""
        print(f"| {name} | {middle[name]:.2f} | {middle[name] / middle[base]:.2f} | {peak} |")
    print(f"\n({better})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="of the large episode, MiB")
    parser.add_argument("--backlog", type=int, default=2000, help="episodes in the backlog")
    parser.add_argument("--sealift", default=str(HERE.parents[1] / "target/release/sealift"))
    parser.add_argument("--old", help="an earlier build")
    parser.add_argument("rows", nargs="*", metavar="ROW")
    arguments = parser.parse_args()
    if arguments.install:
        subprocess.run(["apt-get", "install", "-qy", *PACKAGES], check=True, stdout=subprocess.DEVNULL)
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; run it with --install")
    wanted = arguments.rows or ["large", "small", "backlog"]
    sealift, builds = arguments.sealift, [("", arguments.sealift)]
    if arguments.old:
        builds.append((", earlier build", arguments.old))
    root = pathlib.Path(tempfile.mkdtemp(prefix="sealift-peers-"))
    try:
        print(f"{subprocess.run([sealift, '--version'], capture_output=True, text=True).stdout.strip()}, "
              f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f}")
        if "large" in wanted:
            content = root / "content"
            sample(content, arguments.size << 20, 1)
            rows = [(f"sealift to our receiver{of}",
                     lambda build=build: large_by_shipper(root, content, build, "ours")) for of, build in builds]
            rows += [
                ("sealift to nginx, always", lambda: large_by_shipper(
                    root, content, sealift, "nginx", 'send_while_packing = "always"\n')),
                ("tar, zstd -3 -T2, curl", lambda: large_by_pipe(
                    root, content, "tar cf - . | zstd -q -3 -T2 | curl -sf -T - {url}")),
                ("the same with two sha256sum", lambda: large_by_pipe(
                    root, content,
                    "tar cf - . | tee >(sha256sum >&2) 2>{tmp}/a | zstd -q -3 -T2 | tee >(sha256sum >&2) 2>{tmp}/b | curl -sf -T - {url}")),
                ("tar, zstd -3 -T2, nowhere", lambda: large_by_pipe(
                    root, content, "tar cf - . | zstd -q -3 -T2 >/dev/null")),
            ]
            print_rows(f"One episode of {arguments.size} MiB, marker to acknowledged", rounds(root, rows, arguments.rounds),
                       "tar, zstd -3 -T2, curl", "s", "less is better")
        if "small" in wanted:
            rows = [(f"sealift to our receiver{of}",
                     lambda build=build: small_by(root, Shipper(build, "ours"))) for of, build in builds]
            rows += [
                ("sealift to nginx", lambda: small_by(root, Shipper(sealift, "nginx"))),
                ("script: inotifywait, tar, zstd, sync, curl", lambda: small_by(root, Script())),
                ("limit: read, zstd, PUT", lambda: small_limit(root)),
            ]
            found = rounds(root, rows, arguments.rounds)
            flat = {name: [(1000 * value, None) for times in values for value in times] for name, values in found.items()}
            print_rows("64 KiB, marker to stored", flat, "limit: read, zstd, PUT", "ms", "less is better")
            for name, values in flat.items():
                ordered = sorted(value for value, _ in values)
                print(f"p99 {name}: {ordered[int(len(ordered) * 0.99) - 1]:.1f} ms")
        if "backlog" in wanted:
            rows = [(f"sealift to our receiver{of}", lambda build=build: backlog_by_shipper(
                root, build, "ours", arguments.backlog)) for of, build in builds]
            rows += [
                ("sealift to nginx", lambda: backlog_by_shipper(root, sealift, "nginx", arguments.backlog)),
                ("script: tar, zstd, sync, curl", lambda: backlog_by_script(root, min(arguments.backlog, 200))),
            ]
            print_rows(f"Backlog of {arguments.backlog} times 16 KiB", rounds(root, rows, arguments.rounds),
                       "script: tar, zstd, sync, curl", "episodes a second", "more is better")
    finally:
        shutil.rmtree(root, ignore_errors=True)


main()
