"""What stands between the shipper and its receiver, or in its place. Each tells systemd when it listens.

    peers.py between PORT FOLDER    a line to the receiver that carries FOLDER/rate bytes a second and connection (none: as they
                                    come), and adds to FOLDER/carried how many bytes it has carried towards the receiver
    peers.py front PORT FOLDER      TLS before the receiver (FOLDER/front.pem, .key, ca.pem); a client must show a certificate, whose name
                                    is added to FOLDER/seen
    peers.py refusing PORT FOLDER   a receiver that refuses every episode in its own words: 412 for those that are called old, 400 for those that
                                    are called malformed, else 422
"""

import asyncio
import os
import pathlib
import socket
import ssl
import sys

RECEIVER = ("127.0.0.1", 8490)
PIECE_BYTES = 16 * 1024

what, port, folder = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3])


def number(name):
    try:
        return int((folder / name).read_text())
    except (OSError, ValueError):
        return 0


async def carry(reader, writer, counted):
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
            if counted:
                (folder / "carried").write_text(str(number("carried") + len(piece)))
                if bytes_a_second := number("rate"):
                    await asyncio.sleep(len(piece) / bytes_a_second)
        # Under TLS there is no closing of one side alone.
        if writer.can_write_eof():
            writer.write_eof()
    except OSError:
        writer.close()


async def between(reader, writer):
    if shown := writer.get_extra_info("peercert"):
        name = dict(part[0] for part in shown["subject"])["commonName"]
        with (folder / "seen").open("a") as seen:
            seen.write(name + "\n")
    try:
        answers, requests = await asyncio.open_connection(*RECEIVER)
    except OSError:
        writer.close()
        return
    await asyncio.gather(carry(reader, requests, True), carry(answers, writer, False))
    requests.close()
    writer.close()


async def refuse(reader, writer):
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
    await reader.readexactly(length)
    episode = lines[0].split(" ")[1].rsplit("/", 1)[1]
    status = {"old": b"412 Precondition Failed", "malformed": b"400 Bad Request", "admission": b"404 Not Found"}
    body = b'{"type":"urn:sealift:commit-missing","title":"no such rig is known here"}'
    if episode == "old":
        body = b'{"type":"urn:sealift:commit-out-of-window","detail":"too old","remediation":"lab-update --now"}'
    writer.write(
        b"HTTP/1.1 %s\r\nContent-Type: application/problem+json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
        % (status.get(episode, b"422 Unprocessable Content"), len(body), body)
    )
    await writer.drain()
    writer.close()


def listen_to_us():
    # Short, so that what was carried is about what was sent.
    listener = socket.create_server(("127.0.0.1", port))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    return listener


def tell_ready():
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.connect(os.environ["NOTIFY_SOCKET"])
    manager.send(b"READY=1")


async def serve():
    secured = None
    if what == "front":
        secured = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
        secured.verify_mode = ssl.CERT_REQUIRED
        secured.load_cert_chain(folder / "front.pem", folder / "front.key")
    peer = refuse if what == "refusing" else between
    server = await asyncio.start_server(peer, sock=listen_to_us(), ssl=secured, limit=PIECE_BYTES)
    tell_ready()
    await server.serve_forever()


asyncio.run(serve())
