"""requests, httpx or aiohttp, by name: one request a line of standard input, one outcome a line.

A line is METHOD, URL, FILE, FRAMING and SAVE, and any number of headers, between tabs.
"""

import asyncio
import os
import ssl
import sys


def jobs():
    for line in sys.stdin:
        method, url, file, framing, save, *headers = line.rstrip("\n").split("\t")
        yield method, url, file, framing, save, dict(header.split(": ", 1) for header in headers)


def pieces(file):
    with open(file, "rb") as body:
        while piece := body.read(65536):
            yield piece


async def pieces_later(file):
    for piece in pieces(file):
        yield piece


def body_of(method, file, framing, generator):
    if method == "GET":
        return None
    return open(file, "rb") if framing == "length" else generator(file)


def keep(save, content):
    with open(save, "wb") as saved:
        saved.write(content)


def told(status=None, error=None):
    text = f"error {type(error).__name__}: {error}" if error else f"status {status}"
    print(text.replace("\n", " "), flush=True)


def with_requests():
    import requests

    session = requests.Session()
    session.verify = os.environ["CA"]
    for method, url, file, framing, save, headers in jobs():
        try:
            body = body_of(method, file, framing, pieces)
            answer = session.request(method, url, data=body, headers=headers)
            keep(save, answer.content)
            told(answer.status_code)
        except requests.RequestException as error:
            told(error=error)


def with_httpx():
    import httpx

    # Its own time-outs are five seconds: too short for a busy machine, and not what is looked at.
    trusted = ssl.create_default_context(cafile=os.environ["CA"])
    with httpx.Client(verify=trusted, timeout=60) as client:
        for method, url, file, framing, save, headers in jobs():
            try:
                body = body_of(method, file, framing, pieces)
                answer = client.request(method, url, content=body, headers=headers)
                keep(save, answer.content)
                told(answer.status_code)
            except httpx.HTTPError as error:
                told(error=error)


async def with_aiohttp():
    import aiohttp

    trusted = ssl.create_default_context(cafile=os.environ["CA"])
    connector = aiohttp.TCPConnector(ssl=trusted)
    async with aiohttp.ClientSession(connector=connector) as session:
        for method, url, file, framing, save, headers in jobs():
            try:
                body = body_of(method, file, framing, pieces_later)
                async with session.request(method, url, data=body, headers=headers) as answer:
                    keep(save, await answer.read())
                    told(answer.status)
            except (aiohttp.ClientError, OSError) as error:
                told(error=error)


match sys.argv[1]:
    case "requests":
        with_requests()
    case "httpx":
        with_httpx()
    case "aiohttp":
        asyncio.run(with_aiohttp())
