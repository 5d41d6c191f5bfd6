"""The soak: recorders, shippers, hostile proxies and receivers under bad weather; then the weather is made good, everything drains, and what
came through is compared with what was recorded. Started by run.sh, in namespaces of its own.
"""

import argparse
import fcntl
import heapq
import itertools
import pathlib
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

import judge
from lane import KINDS, RESTART_AFTER_S, STOP_WITHIN_S, Lane
from plan import plan

# How a daemon may end by itself: where its disk is full, with 1. systemd starts it again.
FULL_DISK_EXIT = 1
# Whoever was refused while a disk was full may say so a moment later.
FULL_DISK_ECHO_S = 5
STARTS_WITHIN_S = 30
# With good weather, what waits is tried again within five minutes at the latest, by itself.
LONGEST_PAUSE_S = 300
DRAIN_WITHIN_S = 90
SETTLE_WITHIN_S = 30
# Past what a receiver keeps of uploads that broke off (parts_keep_days).
AFTER_PARTS = "+9d"


class Soak:
    def __init__(self, sealift, seed, seconds, work):
        self.seconds, self.work = seconds, work
        self.faults = []
        self.agenda = []
        self.order = itertools.count()
        self.full_until = {}
        self.filled = set()
        self.journal = (work / "soak.log").open("w", encoding="utf-8")
        credentials(work)
        # One episode in half a second in minutes, of half a MiB and more. All that stays must fit,
        # or there is no good weather.
        record_every_s = max(0.5, seconds / 2000)
        disk_mib = int(96 + seconds / record_every_s * 0.8)
        ports = iter(range(20001, 20100))
        self.lanes = {
            kind.name: Lane(kind, work, seed, (next(ports), next(ports)), sealift, disk_mib, record_every_s) for kind in KINDS
        }
        self.plan = plan(seed, seconds, list(self.lanes))
        (work / "plan.txt").write_text("".join(f"{step}\n" for step in self.plan), encoding="utf-8")
        self.began = time.monotonic()

    def now(self):
        return time.monotonic() - self.began

    def tell(self, what):
        print(f"{self.now():9.2f} s  {what}", file=self.journal, flush=True)

    def fault(self, what):
        self.tell(f"FAULT {what}")
        self.faults.append(what)

    def after(self, seconds, act):
        heapq.heappush(self.agenda, (self.now() + seconds, next(self.order), act))

    # ---------- bad weather

    def weather(self):
        for lane in self.lanes.values():
            for process in lane.processes.values():
                process.start()
        for step in self.plan:
            heapq.heappush(self.agenda, (step.at_s, next(self.order), lambda step=step: self.take(step)))
        self.pass_time(self.seconds)
        # On a busy machine the last steps may be late; and whoever is down or stopped comes back as
        # planned.
        self.pass_time(self.now() + 60, lambda: not self.agenda and all(process.state == "up" for process in self.processes()))

    def pass_time(self, until_s, enough=lambda: False):
        """What is on the agenda is done in its turn, and who ends is seen to, until then, or until it is enough."""
        while self.now() < until_s and not enough():
            while self.agenda and self.agenda[0][0] <= self.now():
                heapq.heappop(self.agenda)[2]()
            for lane in self.lanes.values():
                for process in lane.processes.values():
                    self.see_to(lane, process)
                self.listen_to(lane)
            for lane, disk, leave_kib in self.filled:
                lane.fill(disk, leave_kib)
                self.full_until[lane.name, disk] = self.now() + FULL_DISK_ECHO_S
            time.sleep(0.05)

    def take(self, step):
        self.tell(f"{step.lane}: {step.what} {' '.join(map(str, step.args))}")
        lane = self.lanes[step.lane]
        match step.what:
            case "mood":
                lane.set_mood(*step.args)
            case "clock":
                lane.set_clock(*step.args)
            case "reload":
                lane.set_order(*step.args)
                for role in ("shipper", "receiver"):
                    if lane.processes[role].state == "up" and not lane.processes[role].is_young():
                        lane.processes[role].send("HUP")
            case "fill":
                disk, leave_kib, seconds = step.args
                filling = (lane, disk, leave_kib)
                self.filled.add(filling)
                self.after(seconds, lambda: self.free(filling))
            case "signal":
                role, name, seconds = step.args
                self.signal(lane.processes[role], name, seconds)

    def free(self, filling):
        self.filled.discard(filling)
        lane, disk, _ = filling
        if not any(other is lane and other_disk == disk for other, other_disk, _ in self.filled):
            lane.free(disk)
            # It was full until now, however late this turn is.
            self.full_until[lane.name, disk] = self.now() + FULL_DISK_ECHO_S

    def signal(self, process, name, seconds):
        if process.state != "up":
            return
        process.send(name)
        match name:
            case "STOP":
                process.turn("stopped")
                self.after(seconds, lambda: self.go_on(process))
            case "KILL":
                process.popen.wait()
                process.turn("down")
                self.after(seconds, process.start)
            case "TERM":
                process.was_young = process.is_young()
                process.down_s = seconds
                process.turn("ending")

    def go_on(self, process):
        process.send("CONT")
        process.turn("up")

    def listen_to(self, lane):
        """As systemd would: a heart that stops is started anew."""
        shipper = lane.processes["shipper"]
        for word in lane.heart.hear():
            self.fault(f"{shipper.name} says {word}")
        if shipper.state == "up" and lane.heart.is_overdue(shipper.since):
            self.fault(f"{shipper.name}: no heartbeat for {lane.heart.PATIENCE_S} s")
            self.signal(shipper, "KILL", RESTART_AFTER_S)

    def see_to(self, lane, process):
        if process.state not in ("up", "ending"):
            return
        code = process.popen.poll()
        is_ending = process.state == "ending"
        role = process.name.split()[-1]
        if code is None:
            if is_ending and time.monotonic() - process.since > STOP_WITHIN_S:
                self.fault(f"{process.name} does not end within {STOP_WITHIN_S} s of SIGTERM")
                process.send("KILL")
            return
        self.tell(f"{process.name} ended with {code}{' as it was told' if is_ending else ''}")
        expected = {0} if is_ending else set()
        disk = {"shipper": "data", "receiver": "store"}.get(role)
        full_until = self.full_until.get((lane.name, disk), -1)
        # On a slow machine one that was started on a full disk may take longer than the disk is
        # full to find that out.
        started_on_full = process.began - self.began <= full_until and process.began > time.monotonic() - STARTS_WITHIN_S
        if full_until >= self.now() or started_on_full:
            expected |= {FULL_DISK_EXIT}
        if is_ending and (process.was_young or role == "proxy"):
            expected |= {-15}
        if code not in expected:
            last = process.log.read_text(encoding="utf-8", errors="replace")[-400:]
            self.fault(f"{process.name} ended with {code}{' when it was told to stop' if is_ending else ' by itself'}: ... {last}")
        process.turn("down")
        self.after(process.down_s if is_ending else RESTART_AFTER_S, process.start)

    # ---------- good weather

    def clear(self):
        """Everything is as it should be from now on, and everybody is there; the recorders have finished."""
        for lane in self.lanes.values():
            lane.set_mood("fair")
            for role in ("shipper", "receiver"):
                lane.set_clock(role, "+0")
        for lane in self.lanes.values():
            self.stop(lane.processes["recorder"])
            lane.processes["shipper"].send("HUP")
        self.tell("good weather")

    def processes(self):
        return [process for lane in self.lanes.values() for process in lane.processes.values() if process.state != "over"]

    def stop(self, process):
        expected = (0, -15) if process.is_young() or process.name.endswith("proxy") else (0,)
        process.send("TERM")
        try:
            code = process.popen.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.send("KILL")
            code = "nothing"
        if code not in expected:
            self.fault(f"{process.name} ended with {code} at the end")
        process.turn("over")

    def drain(self, patience_s):
        """First by itself; then, where pauses may be longer than anybody wants to wait, with one restart."""
        is_empty = lambda: not any(lane.waiting() for lane in self.lanes.values())
        began = self.now()
        self.pass_time(began + patience_s, is_empty)
        left = sum(len(lane.waiting()) for lane in self.lanes.values())
        self.tell(f"{left} waiting after {self.now() - began:.0f} s")
        if left and patience_s > LONGEST_PAUSE_S:
            self.fault(f"{left} episodes were not shipped within {patience_s} s of good weather")
        if left:
            for lane in self.lanes.values():
                self.stop(lane.processes["shipper"])
                lane.processes["shipper"].start()
            self.pass_time(self.now() + DRAIN_WITHIN_S, is_empty)
        for lane in self.lanes.values():
            if waiting := lane.waiting():
                self.fault(f"{lane.name}: not drained within {DRAIN_WITHIN_S} s of a restart in good weather: {sorted(waiting)}")

    def settle(self):
        """What nobody will go on with is swept away in its time; then the receiver is asked for everything, and all end."""
        for lane in self.lanes.values():
            self.stop(lane.processes["shipper"])
        for lane in self.lanes.values():
            receiver = lane.processes["receiver"]
            self.stop(receiver)
            lane.set_clock("receiver", AFTER_PARTS)
            receiver.start()
            incoming = lane.folder / "store" / "incoming"
            self.pass_time(self.now() + SETTLE_WITHIN_S, lambda: not any(incoming.iterdir()) and listens(lane.ports[1]))
            self.verify(lane)
            for role in ("proxy", "receiver"):
                self.stop(lane.processes[role])

    def verify(self, lane):
        asked = subprocess.run(
            [lane.sealift, "verify", "--all", "--deep", "--json", "--config", lane.folder / "verify.toml"],
            capture_output=True, text=True, check=False, timeout=600,
        )
        (lane.folder / "logs" / "verify.json").write_text(asked.stdout + asked.stderr, encoding="utf-8")
        if asked.returncode != 0:
            self.fault(f"{lane.name}: sealift verify --all --deep ends with {asked.returncode}: {asked.stdout[:2000]}{asked.stderr[:2000]}")

    def run(self, patience_s):
        self.weather()
        self.clear()
        self.drain(patience_s)
        self.settle()
        told = []
        for lane in self.lanes.values():
            faults, words = judge.judge(lane, self.work)
            self.faults += [f"{lane.name}: {fault}" for fault in faults]
            told.append(f"{lane.name}: {words}")
        return told

    def kill_all(self):
        for process in self.processes():
            if process.popen and process.popen.poll() is None:
                process.send("KILL")
                process.popen.wait()


def credentials(work):
    """An authority, a certificate for the receivers and one for the shippers; and a timedatectl that believes no clock."""
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "825"]
    signed = ["-CA", work / "ca.pem", "-CAkey", work / "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    for name, more in [
        ("ca", ["-subj", "/CN=soak"]),
        ("receiver", [*signed, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]),
        ("host", [*signed, "-subj", "/CN=guarded", "-addext", "subjectAltName=DNS:guarded"]),
    ]:
        files = ["-keyout", work / f"{name}.key", "-out", work / f"{name}.pem"]
        subprocess.run(["openssl", "req", "-x509", *ec, *more, *files], check=True, capture_output=True)
    (work / "bin").mkdir()
    says_no = work / "bin" / "timedatectl"
    says_no.write_text("#!/bin/sh\necho no\n", encoding="ascii")
    says_no.chmod(0o755)


def listens(port):
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


def raise_loopback():
    """A network namespace begins with its loopback down: SIOCSIFFLAGS, IFF_UP (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))


def one_run(options, seed):
    """True where nothing was lost, duplicated or altered, and nobody misbehaved."""
    seconds = options.minutes * 60
    again = f"tests/rigs/soak/run.sh --seed {seed} --minutes {options.minutes:g}"
    print(f"soak rig: seed {seed}, {options.minutes:g} minutes of bad weather", flush=True)
    work = pathlib.Path(tempfile.mkdtemp(prefix=f"soak-{seed}-"))
    soak = Soak(options.sealift, seed, seconds, work)
    told = []
    try:
        told = soak.run(options.patience)
    finally:
        soak.kill_all()
        if not told or soak.faults or options.keep:
            for lane in soak.lanes.values():
                # The disks are gone with the run.
                shutil.copytree(lane.folder / "data", lane.folder / "kept-data", symlinks=True, ignore_dangling_symlinks=True)
                shutil.copytree(lane.folder / "away", lane.folder / "kept-away", symlinks=True)
                shutil.copytree(lane.folder / "store", lane.folder / "kept-store", symlinks=True)
        for lane in soak.lanes.values():
            for disk in ("data", "store", "away"):
                subprocess.run(["umount", lane.folder / disk], check=True)
    for words in told:
        print(f"soak rig: {words}", flush=True)
    if soak.faults:
        for fault in soak.faults[:40]:
            print(f"soak rig: {fault}", file=sys.stderr)
        print(f"soak rig: {len(soak.faults)} faults with seed {seed}; all there is of it: {work}; again: {again}", file=sys.stderr, flush=True)
        return False
    if options.keep:
        print(f"soak rig: all there is of it: {work}")
    else:
        shutil.rmtree(work)
    return True


def main():
    options = argparse.ArgumentParser(prog="tests/rigs/soak/run.sh", description=__doc__)
    options.add_argument("--seed", type=int, help="of the plan; else a random one, which is printed")
    options.add_argument("--minutes", type=float, default=0.8, help="of bad weather in each run")
    options.add_argument("--runs", type=int, default=1, help="so many, with random seeds from the second on")
    options.add_argument("--patience", type=float, default=15, help="seconds that what waits may take before a restart; above 300, it must not need one")
    options.add_argument("--keep", action="store_true", help="keep everything of a good run, too")
    options.add_argument("--plan", action="store_true", help="print the plan of the seed, and do nothing")
    options.add_argument("sealift", type=pathlib.Path)
    options = options.parse_args()
    seeds = [random.randrange(1 << 32) for _ in range(options.runs)]
    if options.seed is not None:
        seeds[0] = options.seed
    if options.plan:
        print(*plan(seeds[0], options.minutes * 60, [kind.name for kind in KINDS]), sep="\n")
        return 0
    raise_loopback()
    failed = [seed for seed in seeds if not one_run(options, seed)]
    if failed:
        print(f"soak rig: failed with {', '.join(map(str, failed))}", file=sys.stderr)
        return 1
    print(f"soak rig: {len(seeds)} runs, nothing lost, duplicated or altered")
    return 0


sys.exit(main())
