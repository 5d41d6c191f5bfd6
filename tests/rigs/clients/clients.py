"""Asks a receiver through each client, and prints how often each has heard what it was answered.

    clients.py SEALIFT WORK PLACE NAME...

WORK holds ca.pem, receiver.pem and receiver.key; PLACE the clients that were fetched or compiled.
"""

import base64
import collections
import dataclasses
import hashlib
import http.client
import json
import os
import pathlib
import re
import select
import shutil
import ssl
import subprocess
import sys
import time

TRIES = 10
# A client that says nothing for so long has not heard its answer; seconds.
PATIENCE_S = 60
MIB = 1 << 20
MAX_EPISODE_BYTES = 28 * MIB
SIZES = {"2k": 2000, "3M": 3 * MIB, "24M": 24 * MIB, "32M": 32 * MIB, "held": 24 * MIB}
# The part that is read back.
FIRST, LAST = 10 * MIB, 12 * MIB - 1

DRIVERS = pathlib.Path(__file__).parent / "drivers"


@dataclasses.dataclass(frozen=True)
class Case:
    """What is asked, and what is to be heard."""

    name: str
    status: int
    problem: str = ""
    size: str = "2k"
    framing: str = "length"
    method: str = "PUT"


CASES = [
    Case("201 2k", 201),
    Case("201 24M", 201, size="24M"),
    Case("206", 206, method="GET"),
    Case("401 get", 401, "unauthenticated", method="GET"),
    Case("401 3M", 401, "unauthenticated", "3M"),
    Case("401 24M", 401, "unauthenticated", "24M"),
    Case("409 3M", 409, "conflict", "3M"),
    Case("409 24M", 409, "conflict", "24M"),
    Case("413 32M", 413, "too-large", "32M"),
    Case("400 3M", 400, "digest-mismatch", "3M"),
    # In chunks, without a length.
    Case("ch 411 2k", 411, "length-required", "2k", "chunked"),
    Case("ch 411 3M", 411, "length-required", "3M", "chunked"),
    Case("ch 411 24M", 411, "length-required", "24M", "chunked"),
    Case("ch 401 24M", 401, "unauthenticated", "24M", "chunked"),
]

# How tus-js-client goes about it, by the versions of the draft that it speaks, and whether that is
# expected to work. From a file stream it does not say which piece is the last:
# findings/tus-js-client-says-success-of-an-upload-it-never-completed.sh.
TUS = {
    ("ietf-draft-05", "whole"): True,
    ("ietf-draft-05", "whole-stream"): True,
    ("ietf-draft-05", "pieces"): True,
    ("ietf-draft-05", "broken"): True,
    ("ietf-draft-05", "pieces-stream"): False,
    ("ietf-draft-05", "broken-stream"): False,
    ("ietf-draft-05", "create"): True,
    ("ietf-draft-03", "whole"): False,
    ("tus-v1", "whole"): False,
}

# These hear no early refusal, whatever a receiver does: what waits for Node's upload before its
# answer waits in vain. findings/node-sends-no-more-of-an-upload-once-it-is-answered.sh.
DEAF = ("node-pipeline",)
EARLY = [case.name for case in CASES if case.method == "PUT" and case.status not in (201, 400)]


class Body:
    """A file to send, with its digests."""

    def __init__(self, path, size):
        content = os.urandom(size)
        path.write_bytes(content)
        self.path, self.size = path, size
        self.sha256 = hashlib.sha256(content).hexdigest()
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        self.header = f"Repr-Digest: sha-256=:{digest}:"


class Receiver:
    """`sealift receive` on a store of its own, with a token, and one episode that is held."""

    def __init__(self, sealift, work, bodies, tls):
        self.work, self.tls = work, tls
        self.store = work / "store"
        self.token = "Authorization: Bearer " + os.urandom(32).hex()
        named = hashlib.sha256(self.token.split()[-1].encode()).hexdigest()
        (work / "tokens").write_text(f'"lab-08" = "{named}"\n')
        (work / "tokens").chmod(0o640)
        lines = ["[receive]", 'listen = "127.0.0.1:0"', f'store = "{self.store}"']
        lines += [f'tokens_file = "{work}/tokens"', f"max_episode_bytes = {MAX_EPISODE_BYTES}"]
        if tls:
            lines += [f'tls_{kind}_file = "{work}/receiver.{end}"'
                      for kind, end in (("cert", "pem"), ("key", "key"))]
        (work / "receiver.toml").write_text("\n".join(lines) + "\n")
        self.log = work / "receiver.log"
        command = [sealift, "receive", "--config", work / "receiver.toml"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stderr=log, env={**os.environ, "NO_COLOR": "1"})
        self.port = self.listening()
        self.base = f"{'https' if tls else 'http'}://localhost:{self.port}"
        self.put("held", bodies["held"])

    def listening(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            found = re.search(r"local_addr=127\.0\.0\.1:(\d+)", self.log.read_text())
            if found:
                return int(found[1])
            select.select([], [], [], 0.05)
        sys.exit("clients rig: the receiver does not listen:\n" + self.log.read_text())

    def ask(self, method, path, body=None, headers=()):
        """Asked by the rig itself: status and headers."""
        trusted = ssl.create_default_context(cafile=self.work / "ca.pem")
        if self.tls:
            connection = http.client.HTTPSConnection("localhost", self.port, context=trusted)
        else:
            connection = http.client.HTTPConnection("localhost", self.port)
        headers = dict(header.split(": ", 1) for header in (self.token, *headers))
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers

    def put(self, id, body):
        status, _ = self.ask("PUT", f"/v1/episodes/{id}", body.path.read_bytes(), [body.header])
        assert status == 201, status

    def announce(self, id, body):
        """Begins an upload that comes piece by piece; its address."""
        headers = [body.header, "Upload-Complete: ?0", f"Upload-Length: {body.size}"]
        status, answered = self.ask("PUT", f"/v1/episodes/{id}", b"", headers)
        assert status == 201, status
        return answered["Location"]

    def holds(self, id, body):
        status, answered = self.ask("HEAD", f"/v1/episodes/{id}")
        return status == 200 and f"Repr-Digest: {answered['Repr-Digest']}" == body.header

    def forget(self, id):
        """Takes away what is held, so that the disk does not fill."""
        (self.store / "episodes" / f"{id}.tar.zst").unlink(missing_ok=True)
        (self.store / "receipts" / f"{id}.json").unlink(missing_ok=True)

    def end(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.store, ignore_errors=True)


class Driver:
    """A program that asks once for each line and says what it has heard."""

    framings = ("length", "chunked")

    def __init__(self, work, place, command):
        # Neither a proxy nor authorities of this machine's own.
        kept = ("PATH", "HOME", "LANG", "TMPDIR")
        self.environment = {key: os.environ[key] for key in kept if key in os.environ}
        self.environment |= {
            "CA": str(work / "ca.pem"),
            "NODE_EXTRA_CA_CERTS": str(work / "ca.pem"),
            "NODE_NO_WARNINGS": "1",
            "NODE_PATH": str(place / "npm" / "node_modules"),
        }
        self.command, self.work, self.process = command, work, None

    def takes(self, case):
        return case.framing in self.framings

    def heard(self, method, url, file, framing, save, headers):
        """`status ...`, or what went wrong."""
        if self.process is None:
            self.errors = open(self.work / "driver.log", "ab")
            self.process = subprocess.Popen(self.command, env=self.environment, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=self.errors)
        line = "\t".join([method, url, str(file), framing, str(save), *headers])
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        # A line at a time, so none is left in the buffer.
        if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
            self.end()
            return f"silent for {PATIENCE_S} s"
        said = self.process.stdout.readline().decode().strip()
        if not said:
            self.end()
        return said or "it ended"

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.errors.close()
            self.process = None


class Command(Driver):
    """A command that is run for each request."""

    def __init__(self, work, place, arguments, framings=("length",), puts=True):
        super().__init__(work, place, None)
        self.arguments, self.framings, self.puts = arguments, framings, puts

    def takes(self, case):
        return case.framing in self.framings and (self.puts or case.method == "GET")

    def heard(self, method, url, file, framing, save, headers):
        command, read_status = self.arguments(method, url, file, framing, save, headers, self.work)
        feed = open(file, "rb") if framing == "chunked" else subprocess.DEVNULL
        try:
            ended = subprocess.run(command, env=self.environment, stdin=feed, text=True,
                                   capture_output=True, timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            return f"silent for {PATIENCE_S} s"
        finally:
            if framing == "chunked":
                feed.close()
        status = read_status(ended)
        if status:
            return f"status {status}"
        complaint = (ended.stderr.strip() or ended.stdout.strip()).splitlines()
        return f"exit code {ended.returncode}: {complaint[-1] if complaint else ''}"


def header_arguments(headers, option):
    return [argument for header in headers for argument in (option, header)]


def curl(*without):
    def arguments(method, url, file, framing, save, headers, work):
        command = ["curl", "-sS", "--cacert", work / "ca.pem", "-o", save, "-w", "%{http_code}", url]
        if method == "PUT":
            command += ["-T", file if framing == "length" else "-", *without]
        command += header_arguments(headers, "-H")
        return command, lambda ended: "" if ended.stdout == "000" else ended.stdout
    return arguments


def wget(method, url, file, framing, save, headers, work):
    command = ["wget", "-nv", "-S", "--tries=1", "--content-on-error", f"--ca-certificate={work}/ca.pem",
               "-O", save, url]
    if method == "PUT":
        command += ["--method=PUT", f"--body-file={file}"]
    ranges = [header for header in headers if header.startswith("Range: ")]
    if ranges:
        # It takes a 206 only where it has asked for the rest of a file.
        command[command.index("-O"):command.index("-O")] = ["-c"]
    command += [f"--header={header}" for header in headers if header not in ranges]

    def read_status(ended):
        found = re.findall(r"^\s*HTTP/1\.1 (\d+)", ended.stderr, re.M)
        return found[-1] if found else ""
    return command, read_status


def aria2c(method, url, file, framing, save, headers, work):
    command = ["aria2c", "--no-conf", "--quiet", "--max-tries=1", "--allow-overwrite=true",
               "--auto-file-renaming=false", f"--ca-certificate={work}/ca.pem", f"--dir={save.parent}",
               f"--out={save.name}", "--log=-", "--log-level=info", url]
    command += [f"--header={header}" for header in headers if not header.startswith("Range: ")]
    if any(header.startswith("Range: ") for header in headers):
        command.insert(1, "--continue=true")

    def read_status(ended):
        # It says no body of a refusal; what is to be heard of one is its exit code.
        found = re.findall(r"^HTTP/1\.1 (\d+)", ended.stdout, re.M)
        return found[-1] if found and ended.returncode in (0, 24) else ""
    return command, read_status


def driver_of(name, work, place):
    python = [place / "venv" / "bin" / "python", DRIVERS / "python.py"]
    node = ["node", DRIVERS / "node.cjs"]
    match name:
        case "curl":
            return Command(work, place, curl(), ("length", "chunked"))
        case "curl-no-expect":
            return Command(work, place, curl("-H", "Expect:"), ("length", "chunked"))
        case "wget":
            return Command(work, place, wget)
        case "aria2c":
            return Command(work, place, aria2c, puts=False)
        case "requests" | "httpx" | "aiohttp":
            return Driver(work, place, [*python, name])
        case "node-http" | "node-pipeline" | "node-fetch":
            return Driver(work, place, [*node, name.removeprefix("node-")])
        case "undici":
            return Driver(work, place, [*node, name])
        case "go":
            return Driver(work, place, [place / "go-client"])
        case "java":
            return Driver(work, place, ["java", "-cp", place / "java", "Client"])


# These continue a file, and so get the rest of one and not a part.
CONTINUES = ("wget", "aria2c")
# These throw away the body that a refusal has: any, or that of a 401.
BODILESS = {"aria2c": (401,), "wget": (401,)}


def wrong(case, name, said, save, body, id):
    """What is not as it should be in what a client has heard; empty where it has heard it all."""
    if said != f"status {case.status}":
        return said
    content = save.read_bytes() if save.exists() else b""
    if case.status == 206:
        whole = body.path.read_bytes()
        expected = whole if name in CONTINUES else whole[FIRST:LAST + 1]
        return "" if content == expected else "206 with other bytes"
    if case.status in BODILESS.get(name, ()):
        return ""
    try:
        answered = json.loads(content)
    except ValueError:
        return f"{case.status} without its body"
    if case.status == 201:
        receipt = answered.get("episode_id") == id and answered.get("sha256") == body.sha256
        return "" if receipt else "201 without the receipt"
    problem = answered.get("type")
    return "" if problem == f"urn:sealift:{case.problem}" else f"{case.status} {problem}"


def tried(driver, name, case, receiver, bodies, attempt):
    body = bodies["held" if case.method == "GET" else case.size]
    id = f"run-{attempt}"
    if case.method == "GET" or case.problem == "conflict":
        id = "held"
    save = receiver.work / "answer"
    save.unlink(missing_ok=True)
    token = receiver.token
    if case.problem == "unauthenticated":
        token = "Authorization: Bearer " + "0" * 64
    headers = [token]
    if case.method == "PUT":
        digest = bodies["2k" if case.problem == "digest-mismatch" else case.size].header
        headers += [digest, "Content-Type: application/zstd"]
    elif case.status == 206:
        headers += [f"Range: bytes={FIRST}-{LAST}"]
        if name in CONTINUES:
            save.write_bytes(body.path.read_bytes()[:FIRST])
    url = f"{receiver.base}/v1/episodes/{id}"
    said = driver.heard(case.method, url, body.path, case.framing, save, headers)
    objection = wrong(case, name, said, save, body, id)
    if case.status == 201:
        receiver.forget(id)
    return objection


def through_http(name, receiver, bodies, place, complaints):
    """The client's line of the table: times heard, case by case."""
    driver = driver_of(name, receiver.work, place)
    row = {}
    for case in CASES:
        if not driver.takes(case):
            continue
        objections = [tried(driver, name, case, receiver, bodies, attempt) for attempt in range(TRIES)]
        row[case.name] = objections.count("")
        complaints[case.name].update(filter(None, objections))
    driver.end()
    return row


def through_tus(receiver, bodies, place, retries):
    """Times that an upload got through, by version of the draft; and what was said where not."""
    body, heard = bodies["24M"], {}
    driver = Driver(receiver.work, place, ["node", DRIVERS / "tus.cjs", retries])
    for (protocol, how), expected in TUS.items():
        said = collections.Counter()
        for attempt in range(TRIES):
            id = f"tus-{attempt}"
            url = (f"{receiver.base}/v1/episodes/{id}" if how == "create"
                   else receiver.base + receiver.announce(id, body))
            headers = [receiver.token, *([body.header] if how == "create" else [])]
            outcome = driver.heard(how, url, body.path, protocol, "-", headers)
            if outcome == "status success" and not receiver.holds(id, body):
                outcome = "success, and nothing is held"
            # The same complaint about one try and about the next is one.
            what, _, request = outcome.partition(", originated from")
            outcome = " ".join([what, *re.findall(r"response code: \d+", request)[:1]])
            said[outcome.removeprefix("status ")] += 1
            receiver.ask("DELETE", f"/v1/uploads/{id}/{body.sha256}")
            receiver.forget(id)
            # What never works is not worth its retries ten times over.
            if not expected and said["success"] == 0:
                break
        heard[protocol, how] = said
    driver.end()
    return heard


def print_table(rows):
    titles = [case.name.split(" ") for case in CASES]
    width = max(len(name) for name, _ in rows) + 2
    for line in range(3):
        # Titles stand on their last line.
        cells = [([""] * (3 - len(title)) + title)[line] for title in titles]
        print(" " * width + "".join(f"{cell:>6}" for cell in cells))
    for name, row in rows:
        print(f"{name:<{width}}" + "".join(f"{row.get(case.name, '-'):>6}" for case in CASES))


def main():
    sealift, work, place, *names = sys.argv[1:]
    work, place = pathlib.Path(work), pathlib.Path(place)
    bodies = {name: Body(work / f"body-{name}", size) for name, size in SIZES.items()}
    rows, failed, notes = [], [], []
    for name in names:
        for tls in (False, True):
            started = time.monotonic()
            wire = "TLS" if tls else "plain"
            receiver = Receiver(sealift, work, bodies, tls)
            try:
                if name == "tus":
                    for retries in ("once", "retrying"):
                        for (protocol, how), said in through_tus(receiver, bodies, place, retries).items():
                            count = said["success"]
                            why = "; ".join(what for what in said if what != "success")
                            line = f"{wire:<6}{retries:<10}{protocol:<15}{how:<14}{count:>3}/{said.total()}"
                            notes.append(f"{line}  {why}" if why else line)
                            if TUS[protocol, how] and count < TRIES:
                                failed.append(f"tus {wire}, {retries}, {protocol}, {how}: {count}: {why}")
                else:
                    complaints = collections.defaultdict(collections.Counter)
                    row = through_http(name, receiver, bodies, place, complaints)
                    rows.append((f"{name} {wire}", row))
                    for case, count in row.items():
                        if count < TRIES and not (name in DEAF and case in EARLY):
                            why, _ = complaints[case].most_common(1)[0]
                            failed.append(f"{name} {wire}, {case}: {count}: {why[:160]}")
            finally:
                receiver.end()
            elapsed = time.monotonic() - started
            print(f"clients rig: {name}, {wire}: {elapsed:.0f} s", file=sys.stderr, flush=True)
    if rows:
        print(f"Times that the answer was heard, of {TRIES}. ch: a body in chunks; -: cannot send so.\n")
        print_table(rows)
    if notes:
        print("\ntus-js-client goes on with what a PUT has announced (create: by a POST of its own):\n")
        print("\n".join(notes))
    if failed:
        print(f"\n{len(failed)} cells are short of {TRIES}:\n")
        print("\n".join(failed))
        sys.exit(1)
    print("\nclients rig: every client that can has heard every answer")


if __name__ == "__main__":
    main()
