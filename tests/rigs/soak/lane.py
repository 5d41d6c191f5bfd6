"""One lane: a recorder, a shipper, a proxy and a receiver in a row, each a process of its own, on disks of their own.

    LANE/data/       the shipper's disk          LANE/store/   the receiver's disk         LANE/away/   a third disk, where shipped/ is
    LANE/shipped     where shipped/ is (a link)  LANE/mood     what the proxy does         LANE/notes/  what was recorded
    LANE/logs/       all that they say           LANE/*.clock  what time they believe      LANE/notify  what the shipper tells its manager
"""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

from episodes import TAKEN_COMMIT

HERE = pathlib.Path(__file__).resolve().parent
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
# One that is told to stop ends within its grace (5 s and 10 s), on a machine that has other things
# to do.
STOP_WITHIN_S = 40
ARCHIVE = re.compile(r"(.*)\.tar\.zst(?:\.partial)?", re.DOTALL)
# Until then it may not have its hands on its signals yet, and ends by them.
YOUNG_S = 5
# As systemd waits before it starts something again.
RESTART_AFTER_S = 0.5

ROLES = ["receiver", "proxy", "shipper", "recorder"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """How lanes differ."""

    name: str
    # A bare 2xx is believed (no require_receipt).
    believes: bool = False
    # TLS with client certificates, a commit window and a largest size, and shipped/ and quarantine/
    # on another file system.
    is_guarded: bool = False


KINDS = [Kind("trusting", believes=True), Kind("strict"), Kind("guarded", is_guarded=True)]


class Process:
    """One of a lane's processes over all its lives."""

    def __init__(self, name, argv, log, environment):
        self.name, self.argv, self.log, self.environment = name, argv, log, environment
        self.popen = None
        self.lives = 0
        # up; down, and to be started again; stopped (SIGSTOP); ending, as it was told; over.
        self.state = "down"
        self.since = self.began = 0.0
        # Of one that is ending: when to start it again, and whether it was so young that it may not
        # have known the signal yet.
        self.down_s = 0.0
        self.was_young = False

    def turn(self, state):
        self.state, self.since = state, time.monotonic()

    def is_young(self):
        return time.monotonic() - self.began < YOUNG_S

    def start(self):
        argv = [str(word).replace("{life}", f"r{self.lives}") for word in self.argv]
        self.lives += 1
        self.began = time.monotonic()
        with self.log.open("ab") as log:
            log.write(f"--- life {self.lives}\n".encode())
            log.flush()
            self.popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        self.turn("up")

    def send(self, name):
        self.popen.send_signal(getattr(signal, f"SIG{name}"))


class Heart:
    """Hears what a shipper tells its service manager, in the place of systemd."""

    # As WatchdogSec=; on a machine that has other things to do.
    PATIENCE_S = 40

    def __init__(self, path, log):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(str(path))
        self.log = log.open("ab")
        self.beat = 0.0

    def hear(self):
        """All that was said since; in words, what is wrong with it."""
        wrong = []
        while True:
            try:
                said = self.socket.recv(4096)
            except BlockingIOError:
                return wrong
            if b"WATCHDOG=1" in said:
                self.beat = time.monotonic()
            else:
                self.log.write(said + b"\n")
                self.log.flush()
            if b"HUNG" in said:
                wrong.append(said.decode(errors="replace"))

    def is_overdue(self, since):
        """Whether somebody who has been there, and moving, since then has not been heard of for too long."""
        return time.monotonic() - max(self.beat, since) > self.PATIENCE_S


class Lane:
    def __init__(self, kind, work, seed, ports, sealift, disk_mib, record_every_s):
        self.kind, self.name = kind, kind.name
        self.folder = work / kind.name
        self.sealift = sealift
        self.ports = ports
        for name in ("data", "store", "away", "notes", "logs"):
            (self.folder / name).mkdir(parents=True)
        for disk in ("data", "store", "away"):
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk_mib}m,mode=700", f"soak-{disk}", self.folder / disk], check=True)
        self.apart = self.folder / ("away" if kind.is_guarded else "data")
        (self.folder / "data" / "episodes").mkdir()
        (self.folder / "shipped").symlink_to(self.apart / "shipped")
        self.heart = Heart(self.folder / "notify", self.log("status"))
        self.set_mood("fair")
        self.configure(work)
        for role in ("shipper", "receiver"):
            self.set_clock(role, "+0")
        trust = "believing" if kind.believes else "strict"
        wire = "tls" if kind.is_guarded else "plain"
        python = [sys.executable, "-B", "-X", "utf8"]
        argvs = {
            "receiver": [sealift, "receive", "--config", self.folder / "receiver.toml"],
            "proxy": [*python, HERE / "proxy.py", self.folder, *ports, f"{seed}/{self.name}/{{life}}", wire, trust],
            "shipper": [sealift, "ship", "--config", self.folder / "shipper.toml"],
            "recorder": [*python, HERE / "recorder.py", self.folder, "{life}", f"{seed}/{self.name}", record_every_s, sealift],
        }
        self.processes = {
            role: Process(f"{self.name} {role}", argvs[role], self.log(role), self.environment(work, role)) for role in ROLES
        }

    def log(self, name):
        return self.folder / "logs" / f"{name}.log"

    def environment(self, work, role):
        # A timedatectl that says no stands first: whether this machine keeps its clock is no part
        # of the trial.
        environment = {**os.environ, "PATH": f"{work}/bin:{os.environ['PATH']}", "NO_COLOR": "1", "RUST_BACKTRACE": "1"}
        if role in ("shipper", "receiver"):
            environment |= {
                "LD_PRELOAD": FAKETIME,
                "FAKETIME_TIMESTAMP_FILE": str(self.folder / f"{role}.clock"),
                "FAKETIME_NO_CACHE": "1",
                # Waits go by the monotonic clock, which no jump moves; and files keep the times
                # that the kernel gave them.
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "NO_FAKE_STAT": "1",
            }
        if role == "shipper":
            environment |= {"NOTIFY_SOCKET": str(self.folder / "notify"), "WATCHDOG_USEC": str(int(Heart.PATIENCE_S * 1e6))}
        return environment

    def configure(self, work):
        proxy_port, receiver_port = self.ports
        scheme = "https" if self.kind.is_guarded else "http"
        shipper = f"""[shipper]
data_dir = "{self.folder}/data"
shipped_dir = "{self.apart}/shipped"
quarantine_dir = "{self.apart}/quarantine"
reconcile_interval_s = 2
shipped_keep_days = 30
quarantine_keep_days = 30
quarantine_cleanup_interval_s = 1
host_id = "{self.name}"
order = "oldest-first"
[receiver]
url = "{scheme}://localhost:{proxy_port}"
require_receipt = {str(not self.kind.believes).lower()}
"""
        receiver = f"""[receive]
listen = "127.0.0.1:{receiver_port}"
store = "{self.folder}/store"
min_free_bytes = {0 if self.kind.believes else 300_000}
"""
        if self.kind.believes:
            # Here packing meets a disk that is full; elsewhere it stops before.
            shipper = shipper.replace("[receiver]", "min_free_bytes = 0\n[receiver]")
        if self.kind.is_guarded:
            shipper += f"""ca_file = "{work}/ca.pem"
client_cert_file = "{work}/host.pem"
client_key_file = "{work}/host.key"
"""
            receiver += f"""tls_cert_file = "{work}/receiver.pem"
tls_key_file = "{work}/receiver.key"
client_ca_file = "{work}/ca.pem"
commits_file = "{self.folder}/commits"
max_episode_bytes = {8 << 20}
"""
            (self.folder / "commits").write_text(TAKEN_COMMIT + "\n", encoding="ascii")
        # Who asks at the end has all the time that there is.
        (self.folder / "verify.toml").write_text(shipper, encoding="utf-8")
        shipper += "connect_timeout_s = 2\nidle_timeout_s = 2\nanswer_timeout_s = 5\n"
        (self.folder / "shipper.toml").write_text(shipper, encoding="utf-8")
        (self.folder / "receiver.toml").write_text(receiver, encoding="utf-8")

    def set_order(self, order):
        """In which the shipper takes what waits, from the next reload or start on."""
        text = (self.folder / "shipper.toml").read_text(encoding="utf-8")
        self.write_at_once("shipper.toml", re.sub(r"^order = .*$", f'order = "{order}"', text, flags=re.MULTILINE))

    def set_mood(self, mood):
        self.write_at_once("mood", mood)

    def set_clock(self, role, offset):
        self.write_at_once(f"{role}.clock", offset + "\n")

    def write_at_once(self, name, text):
        """Nobody reads half of it."""
        made = self.folder / f"{name}.new"
        made.write_text(text, encoding="ascii")
        made.rename(self.folder / name)

    def fill(self, disk, leave_kib):
        """Fills a disk up to the last `leave_kib`, whatever has been freed since it was last done."""
        free = shutil.disk_usage(self.folder / disk).free - leave_kib * 1024
        if free > 0:
            with (self.folder / disk / "filler").open("ab") as filler:
                try:
                    os.posix_fallocate(filler.fileno(), filler.tell(), free)
                except OSError:
                    # Somebody else was quicker.
                    pass

    def free(self, disk):
        (self.folder / disk / "filler").unlink(missing_ok=True)

    def waiting(self):
        """The ids with which the shipper has still something to do: what is sealed and no conflict, what is left of archives."""
        data = self.folder / "data"
        sealed = {marker.parent.name for marker in (data / "episodes").glob("*/done.marker") if not marker.parent.name.startswith(".")}
        archives = {found[1] for archive in (data / "outbox").iterdir() if (found := ARCHIVE.fullmatch(archive.name))}
        return (sealed | archives) - self.conflicts()

    def conflicts(self):
        """The ids that the shipper has put before a person."""
        found = set()
        for sidecar in (self.folder / "data" / "outbox").glob("*.json"):
            try:
                told = json.loads(sidecar.read_text(encoding="utf-8"))
            except (FileNotFoundError, ValueError):
                # It has just been settled, or a full disk had no room for a byte of it.
                continue
            if (told.get("verdict") or {}).get("verdict") == "conflict":
                found.add(told["episode_id"])
        return found
