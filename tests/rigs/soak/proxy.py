"""What stands between a shipper and its receiver, and means ill.

    proxy.py LANE-FOLDER PORT RECEIVER-PORT SEED plain|tls believing|strict

LANE-FOLDER/mood says what it does just now. Plain HTTP is read, so that what is altered is what digests vouch for: a byte of an archive or
of an acknowledgement. (Nothing vouches for a request's path or a refusal's words, and where TLS is off, somebody who alters those is
believed.) An exchange keeps the mood that it began with. Of TLS it sees bytes, and may alter any; a connection ends with its mood, or before.
"""

import asyncio
import pathlib
import random
import sys

import lies
import tricks

PIECE_BYTES = 16 * 1024
MAX_HEAD_BYTES = 64 * 1024
# A request that is to be repeated is kept up to here.
MAX_KEPT_BYTES = 16 << 20

# About so long one lives in bad weather; the next has another trick.
TUNNEL_LIFE_S = 2
# How soon a connection that cannot be read notices that the mood is another.
MOOD_LOOK_S = 0.2

lane, port, receiver_port, seed, wire, trust = sys.argv[1:]
lane = pathlib.Path(lane)
dice = random.Random(f"{seed}/proxy")
# asyncio itself does not keep a task from being collected.
under_way = set()


class Gone(Exception):
    """A trick, or one of the ends, has ended the connection."""


def mood():
    return (lane / "mood").read_text(encoding="ascii").strip()


def told(what):
    print(what, file=sys.stderr, flush=True)


async def send(writer, piece, rate=0):
    writer.write(piece)
    await writer.drain()
    if rate:
        await asyncio.sleep(len(piece) / rate)


class Connection:
    """One of a shipper's, and ours to the receiver behind it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.answers = self.requests = None

    async def reach_receiver(self):
        if not self.requests:
            self.answers, self.requests = await asyncio.open_connection("127.0.0.1", int(receiver_port), limit=MAX_HEAD_BYTES)

    def drop(self):
        """Not in an orderly way: what is still to be sent is nobody's any more."""
        for end in (self.writer, self.requests):
            if end:
                end.transport.abort()


def keep(task):
    under_way.add(task)
    task.add_done_callback(under_way.discard)


async def serve(reader, writer):
    keep(asyncio.current_task())
    connection = Connection(reader, writer)
    try:
        if wire == "tls":
            await tunnel(connection)
        else:
            while await exchange(connection):
                pass
    except (Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        pass
    finally:
        connection.drop()


class Request:
    def __init__(self, head):
        self.head = head
        self.method, self.path = head.decode("latin-1").split(" ", 2)[:2]
        fields = fields_of(head)
        self.length = int(fields.get("content-length", 0))
        self.asks_first = "expect" in fields
        self.body = bytearray()


async def exchange(connection):
    """One request and its answer. True where the connection can have another."""
    request = Request(await connection.reader.readuntil(b"\r\n\r\n"))
    trick = tricks.draw(mood(), dice, request.length)
    if trick != tricks.Trick():
        told(f"{request.method} {request.path} {trick}")
    if trick.closed:
        raise Gone
    if trick.deaf:
        await swallow(connection.reader)
    await asyncio.sleep(trick.delay_s)
    if trick.lie in ("before", "after"):
        if trick.lie == "after":
            if request.asks_first:
                await send(connection.writer, b"HTTP/1.1 100 Continue\r\n\r\n")
            await connection.reader.readexactly(request.length)
        await send(connection.writer, a_lie(request))
        # Whoever goes on sending a body would have it read for the next request.
        return trick.lie == "after"
    await connection.reach_receiver()
    connection.requests.write(request.head)
    body = asyncio.create_task(carry_body(connection, request, trick))
    try:
        head, answer = await answer_of(connection, request)
        if trick.lie == "instead":
            head, answer = b"", a_lie(request)
        elif trick.flip_receipt and head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")) and answer:
            answer = tricks.flipped(answer, dice.randrange(len(answer)))
        if trick.repeat and len(request.body) == request.length:
            keep(asyncio.create_task(repeat(request, trick)))
        await send(connection.writer, (head + answer)[: trick.cut_answer_at], trick.rate)
        # An answer that came before the body was through ends the connection.
        return trick.cut_answer_at is None and body.done() and body.exception() is None
    finally:
        body.cancel()
        await asyncio.gather(body, return_exceptions=True)


def a_lie(request):
    return lies.lie(dice, trust == "believing", request.method == "HEAD")


async def carry_body(connection, request, trick):
    requests = connection.requests
    left, carried = request.length, 0
    while left:
        piece = await connection.reader.read(min(PIECE_BYTES, left))
        if not piece:
            requests.transport.abort()
            raise Gone
        left -= len(piece)
        if trick.repeat and request.length <= MAX_KEPT_BYTES:
            request.body += piece
        if trick.flip_request_at is not None:
            piece = tricks.flipped(piece, trick.flip_request_at - carried)
        carried += len(piece)
        if trick.cut_request_at is not None and carried >= trick.cut_request_at:
            # What has left goes on its way; then the connection breaks.
            await send(requests, piece[: trick.cut_request_at - carried + len(piece)])
            requests.close()
            raise Gone
        await send(requests, piece, trick.rate)


async def answer_of(connection, request):
    """The answer's head and body; heads that only say go on are passed on."""
    while True:
        head = await connection.answers.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status >= 200:
            break
        await send(connection.writer, head)
    if request.method == "HEAD" or status in (204, 304):
        return head, b""
    return head, await connection.answers.readexactly(int(fields_of(head)["content-length"]))


def fields_of(head):
    lines = head.decode("latin-1").split("\r\n")[1:]
    return dict(line.lower().split(":", 1) for line in lines if ":" in line)


async def repeat(request, trick):
    """Sends what has been answered already once more, as proxies do that have lost an answer."""
    try:
        for _ in range(trick.repeat):
            await asyncio.sleep(trick.repeat_after_s)
            answers, requests = await asyncio.open_connection("127.0.0.1", int(receiver_port), limit=MAX_HEAD_BYTES)
            try:
                await send(requests, request.head + bytes(request.body))
                while (head := await answers.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100"):
                    pass
                told(f"again {request.method} {request.path}: {head.split(b' ')[1].decode()}")
            finally:
                requests.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        pass


async def swallow(reader):
    while await reader.read(PIECE_BYTES):
        pass
    raise Gone


async def tunnel(connection):
    """A connection that cannot be read: one trick for all of it."""
    began_in = mood()
    trick = tricks.draw(began_in, dice, dice.choice([2_000, 20_000, 3_000_000]))
    if trick != tricks.Trick():
        told(f"connection {trick}")
    if trick.closed:
        raise Gone
    if trick.deaf:
        await swallow(connection.reader)
    await asyncio.sleep(trick.delay_s)
    if trick.lie:
        await send(connection.writer, lies.lie(dice, trust == "believing", False))
        raise Gone
    await connection.reach_receiver()
    flip_answer_at = dice.randrange(4000) if trick.flip_receipt else None
    ways = [
        asyncio.create_task(carry(connection.reader, connection.requests, trick.cut_request_at, trick.flip_request_at, trick.rate)),
        asyncio.create_task(carry(connection.answers, connection.writer, trick.cut_answer_at, flip_answer_at, trick.rate)),
        asyncio.create_task(until_no_longer(began_in)),
    ]
    try:
        life_s = None if began_in == "fair" else dice.expovariate(1 / TUNNEL_LIFE_S)
        await asyncio.wait(ways, timeout=life_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def until_no_longer(known):
    while mood() == known:
        await asyncio.sleep(MOOD_LOOK_S)


async def carry(reader, writer, cut_at, flip_at, rate):
    carried = 0
    while piece := await reader.read(PIECE_BYTES):
        if flip_at is not None:
            piece = tricks.flipped(piece, flip_at - carried)
        carried += len(piece)
        if cut_at is not None and carried >= cut_at:
            await send(writer, piece[: cut_at - carried + len(piece)])
            return
        await send(writer, piece, rate)


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(port), limit=MAX_HEAD_BYTES)
    await server.serve_forever()


asyncio.run(main())
