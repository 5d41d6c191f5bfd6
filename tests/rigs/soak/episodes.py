"""What recorders record: episodes of many kinds, each built into a folder that is there and empty."""

import os

# In the receiver's window, where it has one, and out of it.
TAKEN_COMMIT = "9f2c41d07be5a3f86e1d2c4b5a697887f6e5d4c3"
STALE_COMMIT = "41abd07be5a3f86e1d2c4b5a697887f6e5d4c39f"

ID_ENDINGS = ["", "", "", " with spaces", "~1", "%2e%2e", "-grün-走", "'\"$(x)`", ".tar.zst", "-" + "n" * 150, ";&|<>", "\u202etxt"]

ODD_NAMES = [
    b"-rf", b"two\nlines", b"tab\there", b"\xff\xfe not UTF-8", b"\x1b[31mred", b"back\\slash", b" ", b"*", b"~", "grün 走".encode(),
    b"n" * 255, b"CON", b"a:b", b"\x7f", b".hidden", b"done.marker.bak", "e\u0301".encode(), "\u00e9".encode(),
]


def write(folder, name, content, dice):
    path = os.path.join(os.fsencode(folder), os.fsencode(name))
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, dice.choice([0o644, 0o640, 0o600, 0o444, 0o755]))
    # Long ago, a moment ago, and before 1970 plus a second.
    seconds = dice.choice([1, 981173106, 1577836800, int(os.lstat(path).st_mtime)])
    os.utime(path, (seconds, seconds))


def meta(folder, commit, dice):
    write(folder, "meta.json", b'{"code_version":{"commit":"%s"}}' % commit.encode(), dice)


def empty(folder, dice):
    pass


def few(folder, dice):
    for n in range(dice.randint(1, 5)):
        write(folder, f"samples-{n}.bin", dice.randbytes(dice.randint(0, 40_000)), dice)


def many_small(folder, dice):
    for n in range(dice.randint(50, 200)):
        inside = os.path.join(folder, f"{n % 7}")
        os.makedirs(inside, exist_ok=True)
        write(inside, f"{n:05}", dice.randbytes(dice.choice([0, 1, 511, 512, 513])), dice)


def one_big(folder, dice):
    # Over a mebibyte once packed, so that it asks first, and goes on where it broke off.
    write(folder, "camera.bin", dice.randbytes(dice.randint(1_200_000, 4_000_000)), dice)


def one_that_shrinks(folder, dice):
    write(folder, "zeros.bin", bytes(dice.randint(1_000_000, 6_000_000)), dice)


def odd_names(folder, dice):
    for name in dice.sample(ODD_NAMES, dice.randint(3, len(ODD_NAMES))):
        write(folder, name, name, dice)


def symlinks(folder, dice):
    write(folder, "target", b"pointed to", dice)
    os.mkdir(os.path.join(folder, "inner"))
    for name, target in [("good", "target"), ("dangling", "nowhere"), ("up", "../.."), ("root", "/etc/passwd"), ("loop", "loop"),
                         ("inner/folder", "..")]:
        os.symlink(target, os.path.join(folder, name))


def nested(folder, dice):
    for depth in range(dice.randint(5, 40)):
        folder = os.path.join(folder, f"d{depth}")
        os.mkdir(folder)
    write(folder, "deep", b"down here", dice)
    os.chmod(folder, 0o750)


def named_like_ours(folder, dice):
    write(folder, "shipping_receipt.json", b'{"sha256":"ours"}', dice)
    write(folder, "quarantine_reason.json", b"{}", dice)
    os.mkdir(os.path.join(folder, "inner"))
    write(os.path.join(folder, "inner"), "done.marker.partial", b"", dice)


def sparse_and_linked(folder, dice):
    write(folder, "sparse", b"", dice)
    path = os.path.join(folder, "sparse")
    os.chmod(path, 0o600)
    os.truncate(path, dice.randint(1, 300_000))
    os.link(path, os.path.join(folder, "same"))


KINDS = [
    (empty, 1), (few, 10), (many_small, 2), (one_big, 5), (one_that_shrinks, 1), (odd_names, 3), (symlinks, 2), (nested, 2),
    (named_like_ours, 2), (sparse_and_linked, 1),
]


def build(folder, commit, dice):
    """An episode of any kind, with a meta.json that names `commit`, where there is one."""
    kind = dice.choices([kind for kind, _ in KINDS], weights=[weight for _, weight in KINDS])[0]
    kind(folder, dice)
    if commit:
        meta(folder, commit, dice)
