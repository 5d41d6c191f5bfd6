#!/usr/bin/env python3
"""Makes the golden files: what a given build of sealift writes, by its real commands. README.md
beside this says what is what.

    tests/golden/make.py PATH-OF-SEALIFT NAME-OF-THE-BUILD

Needs strace (some states are there only while the program is held at one system call). Writes
tests/golden/NAME-OF-THE-BUILD, which must not be there: what a build has written once is kept.
"""

import atexit
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SEALIFT, BUILD = str(Path(sys.argv[1]).resolve()), sys.argv[2]
OUT = Path(__file__).resolve().parent / BUILD
# 2026-11-20T10:00:00Z. git keeps no times: the test puts them back, from stat.tsv.
RECORDED = 1_795_168_800
# What would tell of the machine that these were made on is put otherwise.
HERE = json.dumps(socket.gethostname()).encode()
GOOD, BAD = "a" * 40, "b" * 40
TOKENS = {"lab-07": "token-of-lab-07", "lab-08": "token-of-lab-08", "archivist": "token-of-archivist"}


def noise(length):
    """Bytes that no compressor makes smaller, and that a test makes anew."""
    blocks = (hashlib.sha256(b"golden %d" % n).digest() for n in range(length // 32 + 1))
    return b"".join(blocks)[:length]


def until(what, holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, f"not within a minute: {what}"
        time.sleep(0.01)


def run(*arguments, code=0):
    done = subprocess.run([SEALIFT, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Started:
    """A process that is ended with this."""

    def __init__(self, *command, log):
        self.log = Path(log)
        with open(log, "wb") as file:
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        atexit.register(self.process.kill)

    def says(self, text):
        return text in self.log.read_text(errors="replace")

    def end(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()


def receiver(work, store, name, toml=""):
    config = work / f"{name}.toml"
    config.write_text(toml)
    started = Started(SEALIFT, "receive", "--listen", "127.0.0.1:0", "--store", store, "--config", config, log=work / f"{name}.log")
    until("the receiver listens", lambda: started.says("local_addr="))
    started.address = started.log.read_text().split("local_addr=")[1].split()[0]
    return started


# ---- what is recorded -------------------------------------------------------------------------------------------------------


def record(data, name, content=b"recorded\n", commit=None, marker=b""):
    episode = data / "episodes" / name
    (episode / "sub").mkdir(parents=True)
    (episode / "data.bin").write_bytes(content)
    (episode / "sub" / "notes.txt").write_text(f"of {name}\n")
    (episode / "sub" / "link").symlink_to("../data.bin")
    if commit:
        (episode / "meta.json").write_text(json.dumps({"code_version": {"commit": commit}}))
    if marker is not None:
        (episode / "done.marker").write_bytes(marker)
    settle(episode)
    return episode


def settle(episode):
    """The modes and times that every recording has here."""
    for path in [*episode.rglob("*"), episode]:
        if path.is_symlink():
            os.utime(path, (RECORDED, RECORDED), follow_symlinks=False)
        else:
            path.chmod(0o2775 if path.is_dir() else 0o644)
            os.utime(path, (RECORDED, RECORDED))


# ---- two receivers that are not ours: one accepts without a receipt, one rejects ----------------------------------------------


class Foreign:
    def __init__(self, status, body=b"", media_type="application/json"):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.socket.getsockname()[1]
        self.answer = b"HTTP/1.1 %d Foreign\r\nConnection: close\r\n" % status
        if status != 204:
            self.answer += b"Content-Type: %s\r\nContent-Length: %d\r\n" % (media_type.encode(), len(body))
        self.answer += b"\r\n" + body
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.socket.accept()
            file = connection.makefile("rwb")
            length, line = 0, file.readline()
            while line.strip():
                name, _, value = line.decode().partition(":")
                length = int(value) if name.lower() == "content-length" else length
                line = file.readline()
            file.read(length)
            file.write(self.answer)
            file.flush()
            connection.shutdown(socket.SHUT_WR)
            connection.close()


# ---- the shipper's folders ---------------------------------------------------------------------------------------------------


def shipper(work):
    data = work / "shipper"
    for folder in ["episodes", "outbox", "shipped", "quarantine"]:
        (data / folder).mkdir(parents=True)
    commits = work / "commits"
    commits.write_text(f"{GOOD}\n")
    toml = f'[receive]\ncommits_file = "{commits}"\nmax_episode_bytes = 4096\nremediation = "git pull, then restart the recorder"\n'
    ours = receiver(work, work / "strict-store", "strict", toml)
    url = f"http://{ours.address}"
    nowhere = "http://127.0.0.1:9"
    config = work / "shipper.toml"
    config.write_text('[shipper]\nhost_id = "lab-07"\nreconcile_interval_s = 3600\n')

    def once(url, code):
        run("ship", "--once", "--json", "--config", config, "--data", data, "--receiver", url, code=code)

    # Held already by another host with other content.
    other = work / "other"
    record(other, "conflict", b"of another host\n", GOOD)
    run("ship", "--once", "--data", other, "--receiver", url)

    record(data, "with-receipt", commit=GOOD, marker=None)
    run("seal", data / "episodes/with-receipt")
    settle(data / "episodes/with-receipt")
    record(data, "taken", commit=GOOD)
    record(data, "conflict", commit=GOOD)
    record(data, "out-of-window", commit=BAD)
    record(data, "no-commit")
    record(data, "too-large", noise(8192), commit=GOOD)
    sealed = record(data, "manifest", commit=GOOD, marker=None)
    run("seal", sealed)
    (sealed / "data.bin").write_bytes(b"RECORDED\n")
    settle(sealed)
    once(url, 1)

    accepting = Foreign(204)
    record(data, "bare")
    record(data, "taken", b"once more\n")
    (data / "outbox/conflict.json").rename(work / "conflict.json")
    (data / "outbox/conflict.tar.zst").rename(work / "conflict.tar.zst")
    (data / "episodes/conflict").rename(work / "conflict")
    once(accepting.url, 0)
    rejecting = Foreign(422, b'{"detail": [{"loc": ["body"], "msg": "no such rig"}]}')
    record(data, "rejected")
    once(rejecting.url, 1)
    record(data, "rejected", b"once more\n")
    once(rejecting.url, 1)
    (work / "conflict").rename(data / "episodes/conflict")
    for name in ["conflict.json", "conflict.tar.zst"]:
        (work / name).rename(data / "outbox" / name)

    # Its folder is gone, and nothing was delivered.
    record(data, "last-copy")
    once(nowhere, 1)
    shutil.rmtree(data / "episodes/last-copy")
    once(nowhere, 1)
    assert (data / "quarantine/last-copy").exists()

    # Without an outbox copy, killed between its move to shipped/ and the end of its note.
    config.write_text('[shipper]\nhost_id = "lab-07"\nmin_free_bytes = 9223372036854775807\n')
    for name in ["noted", "emptied"]:
        episode = record(data, name)
        command = [SEALIFT, "ship", "--config", config, "--data", data, "--receiver", accepting.url]
        trace = ["strace", "-D", "-f", "-qq", "-o", work / "strace.log", "-P", episode]
        trace += ["-e", "trace=renameat2", "-e", "inject=renameat2:delay_exit=5000000:when=1"]
        daemon = Started(*trace, *command, log=work / f"{name}.log")
        until(f"{name} is moved", (data / "shipped" / name / "shipping_receipt.json").exists)
        until(f"{name} is noted", (data / "outbox" / f"{name}.json").exists)
        daemon.end(signal.SIGKILL)
        # Put out of the way of the runs below, which would settle it.
        (data / "outbox" / f"{name}.json").rename(work / f"{name}.json")
    config.write_text('[shipper]\nhost_id = "lab-07"\nreconcile_interval_s = 3600\n')

    # Packed, durable, not sent. `edited` is written to afterwards.
    for name in ["waiting", "Lauf 7", "edited"]:
        record(data, name, commit=GOOD)
    record(data, "recording", marker=None)
    daemon = Started(SEALIFT, "ship", "--config", config, "--data", data, "--receiver", nowhere, log=work / "ship.log")
    for name in ["waiting", "Lauf 7", "edited"]:
        until(f"{name} waits", (data / f"outbox/{name}.json").exists)
    until("the receiver is known to be away", lambda: daemon.says("was not delivered"))
    snapshot = ask(data, "/snapshot")
    metrics = ask(data, "/metrics")
    status = run("status", "--json", "--config", config, "--data", data, code=1)
    lock = (data / ".sealift/lock").read_bytes()
    daemon.end(signal.SIGKILL)

    # Killed as its archive is about to be given its name.
    record(data, "half", commit=GOOD)
    partial = data / "outbox/half.tar.zst.partial"
    trace = ["strace", "-f", "-qq", "-o", work / "strace.log", "-P", partial]
    trace += ["-e", "trace=rename,renameat2,linkat", "-e", "inject=rename,renameat2,linkat:signal=KILL:when=1"]
    killed = Started(*trace, SEALIFT, "ship", "--config", config, "--data", data, "--receiver", nowhere, log=work / "half.log")
    killed.process.wait()
    assert partial.exists() and not (data / "outbox/half.tar.zst").exists()

    (work / "noted.json").rename(data / "outbox/noted.json")
    # On a full disk there is no room for the note, and its file stands there without a byte.
    (data / "outbox/emptied.json").write_bytes(b"")
    keep_store(ours, work / "strict-store", OUT / "store-window", [])
    (data / "episodes/edited/data.bin").write_bytes(b"edited after it was packed\n")
    settle(data / "episodes/edited")
    keep = OUT / "shipper"
    for folder in ["episodes", "outbox", "shipped", "quarantine"]:
        shutil.copytree(data / folder, keep / folder, symlinks=True)
    (keep / ".sealift").mkdir()
    (keep / ".sealift/lock").write_bytes(lock.replace(HERE, b'"lab-07"'))
    reason = keep / "quarantine/last-copy/quarantine_reason.json"
    reason.write_text(reason.read_text().replace(str(data), "/golden/shipper"))
    told = OUT / "told"
    told.mkdir()
    (told / "snapshot.http").write_bytes(snapshot)
    (told / "metrics.http").write_bytes(metrics)
    (told / "status.json").write_text(status.replace(str(data), "/golden/shipper"))


def ask(data, path):
    """What the control socket answers, from the head on."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(data / ".sealift/control.sock"))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: sealift\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer.replace(str(data).encode(), b"/golden/shipper")


# ---- the wire ------------------------------------------------------------------------------------------------------------------


class Bodies:
    """Archives that were sent or read, each kept once under wire/bodies. What is noise in it is said and not kept."""

    def __init__(self):
        self.names = {}

    def keep(self, body, name):
        digest = hashlib.sha256(body).hexdigest()
        if digest not in self.names:
            folder = OUT / "wire/bodies"
            folder.mkdir(parents=True, exist_ok=True)
            self.names[digest] = f"{name}.pieces"
            (folder / f"{name}.pieces").write_text("".join(pieces(body)))
        return self.names[digest]


def pieces(body):
    """Lines of `hex BYTES` and `noise FROM LENGTH`."""
    known, at, literal = noise(2 << 20), 0, b""
    where = {known[n : n + 16]: n for n in range(0, len(known), 16)} if len(body) > 4096 else {}
    while at < len(body):
        start = where.get(body[at : at + 16])
        if start is None:
            literal += body[at : at + 1]
            at += 1
            continue
        length = 16
        while at + length < len(body) and body[at + length : at + length + 1] == known[start + length : start + length + 1]:
            length += 1
        if literal:
            yield f"hex {literal.hex()}\n"
            literal = b""
        yield f"noise {start} {length}\n"
        at += length
    if literal:
        yield f"hex {literal.hex()}\n"


class Recorder:
    """A line between a client and a receiver that writes down what passes, one exchange after another."""

    def __init__(self, address, bodies):
        self.upstream, self.bodies, self.exchanges, self.cut_after = address, bodies, [], None
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.socket.getsockname()[1]
        self.url = f"http://{self.address}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self.pass_on, args=(client,), daemon=True).start()

    def pass_on(self, client):
        host, port = self.upstream.rsplit(":", 1)
        server = socket.create_connection((host, int(port)))
        down, up = client.makefile("rb"), server.makefile("rb")
        while head := read_head(down):
            exchange = {"request": {"head": head}}
            self.exchanges.append(exchange)
            server.sendall("".join(line + "\r\n" for line in [*head, ""]).encode())
            length = int(header(head, "content-length") or 0)
            asks = header(head, "expect") is not None
            answer = read_head(up) if asks else None
            if answer and " 100 " in answer[0]:
                exchange["continue"] = True
                client.sendall("".join(line + "\r\n" for line in [*answer, ""]).encode())
                answer = None
            if answer is None and length:
                sent = min(length, self.cut_after or length)
                body = down.read(sent)
                server.sendall(body)
                if sent < length:
                    exchange["request"]["cut"] = sent
                    # What is known of the body comes when it is sent again.
                    client.close(), server.close(), down.close(), up.close()
                    return
                exchange["request"]["body"] = self.bodies.keep(body, self.name(head))
            answer = answer or read_head(up)
            length = int(header(answer, "content-length") or 0)
            body = b"" if head[0].startswith("HEAD ") or " 204 " in answer[0] else up.read(length)
            response = {"head": answer}
            if body and (header(answer, "content-type") or "").startswith("application/zstd"):
                response["archive"] = self.bodies.keep(body, self.name(head))
            elif body:
                response["body"] = body.decode()
            # Whole before the client goes on: it may be the last one, and all are written down then.
            exchange["response"] = response
            client.sendall("".join(line + "\r\n" for line in [*answer, ""]).encode() + body)
        client.close(), server.close()

    def name(self, head):
        count = len(self.bodies.names)
        return f"{count:02}-" + head[0].split("/")[3].split("?")[0].split(" ")[0].replace("%20", "-")

    def write(self, name):
        until("every exchange is over", lambda: all("response" in e or "cut" in e["request"] for e in self.exchanges))
        (OUT / "wire").mkdir(exist_ok=True)
        text = json.dumps(self.exchanges, indent=1, ensure_ascii=False)
        (OUT / "wire" / f"{name}.json").write_text(text + "\n")
        self.exchanges = []


def read_head(file):
    lines = []
    while (line := file.readline()) not in (b"", b"\r\n"):
        lines.append(line.decode().rstrip("\r\n"))
    return lines


def header(head, name):
    return next((line.split(":", 1)[1].strip() for line in head if line.lower().startswith(name + ":")), None)


def digest_of(body):
    import base64

    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


class Hand:
    """A client that follows docs/transport.md by itself."""

    def __init__(self, address, headers=None):
        self.address, self.headers = address, headers or {}

    def ask(self, method, path, body=b"", expected=None, length=True, **headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: receiver.example:8490"]
        headers = {**self.headers, **headers}
        if body and length:
            headers["Content_Length"] = str(len(body))
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        host, port = self.address.rsplit(":", 1)
        connection = socket.create_connection((host, int(port)))
        connection.sendall("".join(line + "\r\n" for line in [*lines, ""]).encode())
        file = connection.makefile("rb")
        answer = read_head(file) if "Expect" in headers else None
        if answer is None or " 100 " in answer[0]:
            connection.sendall(body)
            answer = read_head(file)
        status = int(answer[0].split()[1])
        assert expected in (None, status), f"{method} {path}: {answer} {file.read(int(header(answer, 'content-length') or 0))}"
        file.read(0 if method == "HEAD" else int(header(answer, "content-length") or 0))
        connection.close()
        return answer

    def put(self, name, body, expected, **headers):
        common = {"Content_Type": "application/zstd", "Repr_Digest": digest_of(body)}
        return self.ask("PUT", f"/v1/episodes/{name}", body, expected, **{**common, **headers})


def wires(work):
    bodies = Bodies()

    # A receiver that asks nobody who they are.
    ours = receiver(work, work / "store-none", "open", "[receive]\nmax_episode_bytes = 1500000\n")
    line = Recorder(ours.address, bodies)
    hand = Hand(line.address)
    small, other, large = b"small archive\n", b"another archive\n", noise((1 << 20) + 4000)
    sha256 = hashlib.sha256(large).hexdigest()
    hand.put("small", small, 201, Sealift_Host="lab-07")
    hand.put("small", small, 200, Sealift_Host="lab-07")
    hand.put("small", other, 409)
    hand.put("Lauf%207", other, 201)
    hand.put("large", large, 201, Expect="100-continue")
    hand.put("large", large, 200, Expect="100-continue")
    hand.put("mismatch", small, 400, Repr_Digest=digest_of(other))
    hand.put("malformed", small, 400, Repr_Digest="sha-256=:AAAA:")
    hand.put("too-large", noise(1500001), 413, Expect="100-continue")
    hand.put(".hidden", small, 400)
    hand.ask("PUT", "/v1/episodes/no-length", expected=411, Repr_Digest=digest_of(small))
    hand.ask("POST", "/v1/episodes/small", expected=405)
    hand.ask("GET", "/v1/nothing", expected=404)
    line.write("put")
    hand.ask("HEAD", "/v1/episodes/small", expected=200)
    hand.ask("HEAD", "/v1/episodes/small", expected=200, Sealift_Reread="?1")
    hand.ask("HEAD", "/v1/episodes/none", expected=404)
    hand.ask("GET", "/v1/episodes/small", expected=200)
    hand.ask("GET", "/v1/episodes/Lauf%207", expected=200)
    hand.ask("GET", "/v1/episodes/none", expected=404)
    hand.ask("GET", "/v1/episodes/small", expected=206, Range="bytes=6-")
    hand.ask("GET", "/v1/episodes/small", expected=416, Range="bytes=99-")
    hand.ask("GET", "/v1/admission", expected=204)
    hand.ask("HEAD", "/v1/admission", expected=204)
    hand.ask("GET", "/healthz", expected=200)
    hand.ask("HEAD", "/healthz", expected=200)
    line.write("read")
    part = f"/v1/uploads/pieces/{sha256}"
    patch = {"Content_Type": "application/partial-upload"}
    create = {"Upload_Complete": "?0", "Upload_Length": len(large), "Content_Length": "0", "Repr_Digest": digest_of(large)}
    hand.ask("HEAD", part, expected=404)
    hand.ask("PUT", "/v1/episodes/pieces", expected=201, Content_Type="application/zstd", **create)
    hand.ask("HEAD", part, expected=204)
    hand.ask("PATCH", part, large[:30000], 204, Upload_Offset="0", Upload_Complete="?0", **patch)
    hand.ask("HEAD", part, expected=204)
    hand.ask("PATCH", part, large[:100], 409, Upload_Offset="100", Upload_Complete="?0", **patch)
    hand.ask("PATCH", part, large[30000:], 400, Upload_Offset="30000", Upload_Complete="?2", **patch)
    hand.ask("PATCH", part, large[30000:30100], 415, Upload_Offset="30000", Upload_Complete="?0")
    hand.ask("PATCH", part, large[30000:], 201, Upload_Offset="30000", Upload_Complete="?1", Expect="100-continue", **patch)
    hand.ask("HEAD", part, expected=204)
    hand.ask("PATCH", part, large[30000:], 200, Upload_Offset="30000", Upload_Complete="?1", **patch)
    hand.ask("HEAD", f"/v1/uploads/pieces/{hashlib.sha256(small).hexdigest()}", expected=404)
    hand.ask("HEAD", "/v1/uploads/pieces/abc", expected=400)
    gone = f"/v1/uploads/cancelled/{sha256}"
    hand.ask("PUT", "/v1/episodes/cancelled", expected=201, Content_Type="application/zstd", **create)
    hand.ask("PATCH", gone, large[:20000], 204, Upload_Offset="0", Upload_Complete="?0", **patch)
    hand.ask("DELETE", gone, expected=204)
    hand.ask("HEAD", gone, expected=404)
    hand.ask("PATCH", gone, large[20000:], 404, Upload_Offset="20000", Upload_Complete="?1", Expect="100-continue", **patch)
    line.write("resumable")

    # The same by our own shipper: a small one, a large one that breaks off and is gone on with, a conflict, what is asked after.
    data = work / "wired"
    record(data, "shipped-small", commit=GOOD)
    record(data, "shipped-large", noise((1 << 20) + 4000))
    config = work / "wired.toml"
    config.write_text('[shipper]\nhost_id = "lab-07"\n')
    ship = ["ship", "--once", "--config", config, "--data", data, "--receiver", line.url]
    run(*ship)
    line.write("ship")
    record(data, "small")
    run(*ship, code=1)
    line.write("ship-conflict")
    record(data, "broken-off", noise((1 << 20) + 4000))
    line.cut_after = 40_000
    (data / "episodes/small").rename(work / "small-in-conflict")
    for name in ["small.json", "small.tar.zst"]:
        (data / "outbox" / name).unlink()
    run(*ship, code=1)
    line.cut_after = None
    line.write("ship-broken-off")
    run("verify", "--all", "--config", config, "--data", data, "--receiver", line.url)
    run("verify", "--deep", "--config", config, "--data", data, "--receiver", line.url, "shipped-small")
    line.write("verify")
    (work / "fetched").mkdir()
    run("fetch", "shipped-small", "--to", work / "fetched", "--config", config, "--data", data, "--receiver", line.url)
    line.write("fetch")
    # The store is kept with the part in it, and nothing large.
    keep_store(ours, work / "store-none", OUT / "store-none", "large shipped-large pieces".split())
    resumed = receiver(work, work / "store-none", "open", "[receive]\nmax_episode_bytes = 1500000\n")
    line = Recorder(resumed.address, bodies)
    run("ship", "--once", "--config", config, "--data", data, "--receiver", line.url)
    line.write("ship-resumed")
    resumed.end()

    # One that asks, has a window, and files by host.
    tokens, commits = work / "tokens", work / "window"
    tokens.write_text("".join(f'"{name}" = "{hashlib.sha256(token.encode()).hexdigest()}"\n' for name, token in TOKENS.items()))
    commits.write_text(f"{GOOD}\n")
    toml = f"""[receive]
namespace = "host"
tokens_file = "{tokens}"
readers = ["archivist"]
commits_file = "{commits}"
remediation = "git pull, then restart the recorder"
max_episode_bytes = 1500000
"""
    ours = receiver(work, work / "store-host", "closed", toml)
    line = Recorder(ours.address, bodies)
    as_ = {name: {"Authorization": f"Bearer {token}"} for name, token in TOKENS.items()}
    hand, good, bad = Hand(line.address), {"X_Cis490_Code_Commit": GOOD}, {"X_Cis490_Code_Commit": BAD}
    hand.put("run-1", small, 401, **good)
    hand.put("run-1", small, 401, Authorization="Bearer unknown", **good)
    hand.put("run-1", small, 400, **as_["lab-07"])
    hand.put("run-1", small, 400, X_Cis490_Code_Commit="main", **as_["lab-07"])
    hand.put("run-1", small, 412, **bad, **as_["lab-07"])
    hand.put("run-1", large, 412, Expect="100-continue", **bad, **as_["lab-07"])
    hand.put("run-1", small, 201, **good, **as_["lab-07"])
    hand.put("run-1", other, 201, **good, **as_["lab-08"])
    hand.put("run-1", small, 200, **bad, **as_["lab-07"])
    hand.ask("GET", "/v1/admission", expected=401, **good)
    hand.ask("GET", "/v1/admission", expected=400, **as_["lab-07"])
    hand.ask("GET", "/v1/admission", expected=412, **bad, **as_["lab-07"])
    hand.ask("GET", "/v1/admission", expected=204, **good, **as_["lab-07"])
    hand.ask("GET", "/v1/episodes/run-1", expected=200, **as_["lab-07"])
    hand.ask("HEAD", "/v1/episodes/run-1", expected=200, **as_["lab-08"])
    hand.ask("GET", "/v1/episodes/run-1?host=lab-08", expected=403, **as_["lab-07"])
    hand.ask("GET", "/v1/episodes/run-1?host=lab-08", expected=200, **as_["archivist"])
    hand.ask("GET", "/v1/episodes/run-1?host=../x", expected=400, **as_["archivist"])
    hand.ask("GET", "/healthz", expected=200)
    line.write("who-asks")
    part = f"/v1/uploads/run-2/{sha256}"
    hand.ask("PUT", "/v1/episodes/run-2", expected=201, Content_Type="application/zstd", **create, **good, **as_["lab-07"])
    hand.ask("PATCH", part, large[:30000], 204, Upload_Offset="0", Upload_Complete="?0", **patch, **good, **as_["lab-07"])
    hand.ask("HEAD", part, expected=204, **as_["lab-07"])
    hand.ask("HEAD", part, expected=404, **as_["lab-08"])
    hand.ask("PATCH", part, large[30000:], 412, Upload_Offset="30000", Upload_Complete="?1", Expect="100-continue", **patch, **bad, **as_["lab-07"])
    line.write("who-goes-on")
    keep_store(ours, work / "store-host", OUT / "store-host", [])


def keep_store(process, store, to, without):
    process.end()
    shutil.copytree(store, to)
    for name in without:
        for path in [*to.rglob(f"{name}.tar.zst"), *to.rglob(f"{name}.json")]:
            path.unlink()


# ---- what git does not keep --------------------------------------------------------------------------------------------------


def note_stats():
    """Mode and mtime of all that was written, and which folders were empty."""
    lines = []
    for path in sorted(OUT.rglob("*")):
        top = path.relative_to(OUT).parts[0]
        if not top.startswith(("shipper", "store-")):
            continue
        stat = path.lstat()
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        lines.append(f"{kind}\t{stat.st_mode & 0o7777:04o}\t{stat.st_mtime_ns}\t{path.relative_to(OUT)}\n")
    (OUT / "stat.tsv").write_text("".join(lines))


def configurations(work):
    """Every key, at another value than its default; and how the build shows each."""
    keep = OUT / "config"
    keep.mkdir()
    for name in ["shipper", "receiver"]:
        source = Path(__file__).resolve().parent / "config" / f"{name}.toml"
        shutil.copy(source, keep / source.name)
        shown = run("config", "show", "--config", keep / source.name)
        (keep / f"{name}.shown").write_text(shown.replace(str(keep), "/golden/config").replace(HERE.decode(), '"lab-07"'))
    contributed = OUT.parents[2] / "contrib/sealift.toml"
    shutil.copy(contributed, keep / "contrib.toml")


OUT.mkdir()
with tempfile.TemporaryDirectory() as folder:
    os.umask(0o022)
    shipper(Path(folder))
    wires(Path(folder))
    configurations(Path(folder))
    note_stats()
