"""Answers that nobody of ours has written: any status, with anything for a body.

What a receiver of ours could have said, and is to be believed, is never among them: a refusal of the episode as a JSON object
under a JSON type, and, where `believes` (no require_receipt), a bare acknowledgement.
"""

import email.utils
import json

HELD = {401, 403, 404, 405, 407, 411, 421, 426}
WEATHER = {408, 425, 429}
# Drawn more often than the rest of 200 to 599: what would mean something if the receiver said it.
ACKNOWLEDGING = [200, 200, 201, 202, 204]
TELLING = [206, 301, 307, 400, 400, 403, 404, 409, 409, 410, 412, 413, 422, 429, 500, 502, 503, 507]

PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome to the guest network.</body></html>"
FALSE_RECEIPT = {"episode_id": "another", "sha256": "0" * 64, "size_bytes": 1, "stored_at": "2026-11-24T10:15:30Z"}
OF_THE_WAY = {"digest-mismatch": 400, "truncated": 400, "offset-mismatch": 409}

JSON, PROBLEM, HTML, TEXT = "application/json", "application/problem+json", "text/html; charset=utf-8", "text/plain"


def lie(dice, believes, head_only):
    """The bytes of an answer."""
    if head_only:
        # Where an upload goes on: at a byte that somebody has made up.
        return answer(dice, dice.choice([200, 204, 404, 500]), JSON, b"", [f"Upload-Offset: {dice.randint(0, 3_000_000)}"])
    if dice.random() < 0.15:
        kind, status = dice.choice(list(OF_THE_WAY.items()))
        body = json.dumps({"type": f"urn:sealift:{kind}", "title": "altered", "status": status}).encode()
        return answer(dice, status, PROBLEM, body, [f"Upload-Offset: {dice.randint(0, 100)}"] if status == 409 else [])
    # The lie that would cost most is the one that is believed.
    acknowledging = 0.8 if believes else 0.4
    status = dice.choice(ACKNOWLEDGING) if dice.random() < acknowledging else dice.choice([dice.choice(TELLING), dice.randint(200, 599)])
    return answer(dice, status, *dice.choice(bodies(dice, status, believes)))


def bodies(dice, status, believes):
    """Each body, with its type, that means no more than what it is."""
    object_ = json.dumps({"error": "no", "detail": "\x1b[2J not \u202e yours"}).encode()
    receipt = json.dumps(FALSE_RECEIPT).encode()
    found = [(HTML, PAGE), (TEXT, PAGE), (JSON, PAGE), ("", PAGE), (JSON, receipt), (JSON, receipt[: dice.randint(30, len(receipt) - 1)])]
    if not (believes and status in (201, 204)):
        found += [(JSON, b""), (TEXT, b""), (TEXT, b"blocked"), (JSON, b"[1,2]"), (JSON, b"null"), (JSON, b'"no"'), (TEXT, object_),
                  ("application/vnd.waf.error+json", object_), (JSON, object_[:-1])]
    if not 400 <= status <= 499 or status in HELD | WEATHER:
        if not (believes and status in (201, 204)):
            found += [(JSON, object_), (PROBLEM, object_)]
    else:
        # A receipt under a JSON type is a JSON object as well.
        found = [(kind, body) for kind, body in found if body != receipt]
    if believes and status == 201:
        # It may carry any page, as that of Apache's mod_dav does.
        found = [(kind, body) for kind, body in found if body != PAGE or kind == JSON]
    if status in (204, 304) and not believes:
        found = [(JSON, b"")]
    if status == 204 and believes:
        # It cannot have a body, and without one it would be believed.
        found = [("", None)]
    return found


def answer(dice, status, kind, body, more=()):
    if body is None:
        status, body = 502, b""
    lines = [f"HTTP/1.1 {status} Whatever", *more]
    if kind:
        lines.append(f"Content-Type: {kind}")
    if status not in (204, 304):
        lines.append(f"Content-Length: {len(body)}")
    if status in (301, 302, 303, 307, 308):
        lines.append("Location: http://127.0.0.1:1/elsewhere")
    if status in (429, 503) and dice.random() < 0.7:
        # Short ones, in both forms, and nonsense: what is asked for is waited for, and a run must
        # end.
        lines.append(f"Retry-After: {dice.choice(['0', '1', '2', 'soon', '-5', email.utils.formatdate(usegmt=True)])}")
    if dice.random() < 0.5:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if status in (204, 304) else body)
