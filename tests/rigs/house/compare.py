#!/usr/bin/env python3
"""Compares two builds of the program in one run, turn and turn about, and prints ratios.

    tests/rigs/house/compare.py OLD NEW [--rounds N] [--episodes N]

Each round starts a receiver and a shipper of each build on folders of their own below TMPDIR, and
measures: from the marker of an episode to its folder in shipped/ (the median of many, one after
another); the resident memory of the idle shipper; how many episodes a second one pass ships; and
what each waiting episode adds to the shipper's memory while its receiver is away. What is printed
is the median over the rounds, and NEW divided by OLD. The episodes are small: most of the time is
the disk's, so set TMPDIR to a folder in memory to see the program's own.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time

FOLDERS = ("episodes", "outbox", "shipped", "quarantine")
PATIENCE_S = 120


def seal(data, name):
    """Records an episode out of sight and seals it; when its marker was made, seconds."""
    folder = data / "episodes" / name
    folder.mkdir()
    (folder / "data.bin").write_bytes(name.encode() * 64)
    began = time.perf_counter()
    (folder / "done.marker").touch()
    return began


def wait(what, is_so):
    until = time.perf_counter() + PATIENCE_S
    while not is_so():
        if time.perf_counter() > until:
            raise SystemExit(f"{what}: not within {PATIENCE_S} s")
        time.sleep(0)


def memory_kib(pid, which):
    """Of proc_pid_status(5): VmRSS, or RssAnon, which is without the program's own pages."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{which}:\s+(\d+)", status)[1])


class Build:
    def __init__(self, program):
        self.program, self.figures = program, {}

    def note(self, name, figure):
        self.figures.setdefault(name, []).append(figure)

    def start(self, *arguments, cwd):
        log = open(cwd / f"{arguments[0]}.log", "w")
        return subprocess.Popen([self.program, *arguments], stdout=log, stderr=log, cwd=cwd)

    def receiver(self, root):
        process = self.start("receive", "--listen", "127.0.0.1:0", "--store", str(root / "store"), cwd=root)
        found = []

        def listens():
            found[:] = re.findall(r"127\.0\.0\.1:(\d+)", (root / "receive.log").read_text())
            return bool(found)

        wait("the receiver listens", listens)
        return process, f"http://127.0.0.1:{found[0]}"

    def round(self, episodes):
        root = pathlib.Path(tempfile.mkdtemp(prefix="sealift-compare-"))
        data = root / "data"
        for folder in FOLDERS:
            (data / folder).mkdir(parents=True)
        (root / "store").mkdir()
        receiver, url = self.receiver(root)
        shipper = self.start("ship", "--data", str(data), "--receiver", url, cwd=root)
        try:
            self.one_by_one(data, episodes)
            self.note("idle memory, KiB", memory_kib(shipper.pid, "VmRSS"))
            self.note("idle memory without code, KiB", memory_kib(shipper.pid, "RssAnon"))
            end(shipper)
            self.one_pass(root, data, url, 10 * episodes)
            end(receiver)
            self.waiting(root, data, url, 20 * episodes)
        finally:
            for process in (shipper, receiver):
                process.kill()
            shutil.rmtree(root)

    def one_by_one(self, data, episodes):
        took = []
        for n in range(episodes + 20):
            began = seal(data, f"one-{n}")
            wait("it is shipped", (data / "shipped" / f"one-{n}" / "shipping_receipt.json").exists)
            # The first ones wake what sleeps: they are not counted.
            if n >= 20:
                took.append(time.perf_counter() - began)
        self.note("marker to shipped/, ms", 1000 * statistics.median(took))

    def one_pass(self, root, data, url, episodes):
        for n in range(episodes):
            seal(data, f"pass-{n}")
        began = time.perf_counter()
        command = [self.program, "ship", "--once", "--data", str(data), "--receiver", url]
        with open(root / "once.log", "w") as log:
            subprocess.run(command, check=True, stdout=log, stderr=log)
        self.note("one pass, episodes a second", episodes / (time.perf_counter() - began))

    def waiting_count(self, data):
        time.sleep(0.5)
        command = [self.program, "status", "--json", "--data", str(data)]
        told = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
        counts = (told["snapshot"] or {}).get("counts", {})
        return sum(counts.get(state, 0) for state in ("sealed", "packing", "ready", "uploading", "waiting"))

    def waiting(self, root, data, url, episodes):
        shipper = self.start("ship", "--data", str(data), "--receiver", url, cwd=root)
        try:
            seal(data, "first")
            wait("the first is packed", (data / "outbox" / "first.tar.zst").exists)
            time.sleep(1)
            before = memory_kib(shipper.pid, "RssAnon")
            for n in range(episodes):
                seal(data, f"wait-{n}")
            wait("all are known", lambda: self.waiting_count(data) > episodes)
            time.sleep(1)
            added = memory_kib(shipper.pid, "RssAnon") - before
            self.note("a waiting episode, bytes", 1024 * added / episodes)
        finally:
            shipper.kill()
            shipper.wait()


def end(process):
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE_S)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("old")
    arguments.add_argument("new")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--episodes", type=int, default=200)
    given = arguments.parse_args()
    old, new = Build(os.path.abspath(given.old)), Build(os.path.abspath(given.new))
    for n in range(given.rounds):
        for build in (old, new) if n % 2 == 0 else (new, old):
            build.round(given.episodes)
    print(f"{'':34}{'old':>10}{'new':>10}{'new/old':>10}")
    for name, figures in old.figures.items():
        before, after = statistics.median(figures), statistics.median(new.figures[name])
        print(f"{name:34}{before:10.2f}{after:10.2f}{after / before:10.3f}")


if __name__ == "__main__":
    main()
