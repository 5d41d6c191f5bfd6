"""Compares what was recorded with what the receiver holds, and with what stands in the shipper's folders.

For each id that a recorder began there is a small set of ends that are right; anything else is a fault.

    fate         held by the receiver      shipped/         elsewhere
    plain        it                        it               -
    twin         the first                 both, the same   -
    rival        the first                 the first        the rival in episodes/, a conflict
    changed,     what it was changed to    the same         -
    reopened     what it was before        -                what it is now in episodes/, a conflict (or without its marker, open)
    damaged,     -                         -                quarantine/, with the reason
    stale, huge
    removed      it, or nothing            -                nowhere, or its archive in quarantine/: it may be the last copy
    left open    -                         -                episodes/, without a marker
"""

import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import urllib.parse

from listing import MARKER, differences, listing

RECEIPT, REASON = "shipping_receipt.json", "quarantine_reason.json"
QUARANTINED = {"damaged": None, "stale": 412, "huge": 413}
# What a move by copying locks. It is empty, and stays.
AT_WORK = ".sealift-at-work"
# What must not be in any log of ours.
ALARMS = re.compile(rb"panicked|RUST_BACKTRACE|overflowed its stack|unreachable|Traceback")
# Where nothing on the way can alter a byte unseen, a receiver never finds any altered.
ALTERED = re.compile(rb"digest.mismatch", re.IGNORECASE)


class Recording:
    """What one recorder noted of one episode."""

    def __init__(self, notes):
        self.id, self.fate, self.place = notes[0]["id"], notes[0]["fate"], notes[0]["place"]
        self.steps = {note["step"] for note in notes}
        contents = {note["step"]: without_marker(note["content"]) for note in notes if "content" in note}
        self.content = contents.get("built")
        self.after = contents.get("changing")

    def was_built(self):
        return self.content is not None and "given up" not in self.steps

    def was_removed(self):
        """A kill between the removal and the note of it leaves the first note only."""
        return "removing" in self.steps and "too late" not in self.steps

    def was_sealed(self):
        return "sealed" in self.steps


def without_marker(content):
    return {path: about for path, about in content.items() if path != MARKER}


def recordings(folder):
    """Those of one lane by id, in their order."""
    notes = collections.defaultdict(list)
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8", errors="surrogatepass").splitlines():
            try:
                note = json.loads(line)
            except json.JSONDecodeError:
                # A kill in the middle of a line: what it says had not begun.
                continue
            notes[note["number"]].append(note)
    found = collections.defaultdict(list)
    for of_one in notes.values():
        found[of_one[0]["id"]].append(Recording(of_one))
    return found


class Places:
    """Where things stand at the end of a lane's run."""

    def __init__(self, lane, work):
        data = lane.folder / "data"
        self.episodes = {path.name: path for path in (data / "episodes").iterdir() if path.name != AT_WORK}
        self.outbox = {path.name for path in (data / "outbox").iterdir()}
        self.conflicts = lane.conflicts()
        self.shipped = filed(lane.apart / "shipped", RECEIPT)
        self.quarantine = filed(lane.apart / "quarantine", REASON)
        self.held = {
            urllib.parse.unquote(path.name.removesuffix(".tar.zst")): path for path in (lane.folder / "store" / "episodes").iterdir()
        }
        self.is_apart = lane.kind.is_guarded
        self.unpacked = work / "unpacked"

    def content_held(self, id_):
        """What the receiver holds, unpacked by somebody else's tar; None where it holds nothing."""
        return self.content_packed(id_, self.held[id_]) if id_ in self.held else None

    def content_packed(self, id_, archive):
        """What an archive of this id holds."""
        shutil.rmtree(self.unpacked, ignore_errors=True)
        self.unpacked.mkdir()
        unpacking = subprocess.run(["tar", "--zstd", "-xpf", archive, "-C", self.unpacked], capture_output=True, check=False)
        if unpacking.returncode != 0:
            return {"": f"cannot be unpacked: {unpacking.stderr[:200]}"}
        tops = os.listdir(self.unpacked)
        if tops != [id_] or not (self.unpacked / id_ / MARKER).is_file():
            return {"": f"holds {tops} instead of a sealed episode"}
        return without_marker(listing(self.unpacked / id_))


def filed(folder, paper):
    """The folders in shipped/ or quarantine/ by the id that their papers say, each with its papers."""
    found = collections.defaultdict(list)
    for path in folder.iterdir() if folder.exists() else []:
        if path.name == AT_WORK:
            continue
        papers = sorted(path.glob(f"{paper}*"), key=lambda at: at.stat().st_mtime) if path.is_dir() else []
        ids = {}
        for at in papers:
            try:
                ids[at] = json.loads(at.read_text(encoding="utf-8"))["episode_id"]
            except (ValueError, KeyError, TypeError):
                # A recorder's own file of that name.
                continue
        id_ = next(reversed(ids.values()), None)
        found[id_ or f"nobody's: {path.name}"].append((path, next(reversed(ids), None)))
    return found


def content_filed(path, paper):
    return {name: about for name, about in without_marker(listing(path)).items() if name != (paper and paper.name)}


def judge(lane, work):
    """The faults of a lane's run, and what to say of it."""
    recorded, places = recordings(lane.folder / "notes"), Places(lane, work)
    faults = []
    ends = collections.Counter()
    for id_, of_it in recorded.items():
        end, why = end_of(id_, of_it, places)
        ends[end] += 1
        faults += [f"{id_!r} ({', '.join(one.fate for one in of_it)}; {sorted(of_it[-1].steps)}): {word}" for word in why]
    faults += strangers(recorded, places)
    faults += leftovers(lane)
    faults += alarms(lane)
    shutil.rmtree(places.unpacked, ignore_errors=True)
    lives = ", ".join(f"{process.lives} lives of the {role}" for role, process in lane.processes.items())
    return faults, f"{len(recorded)} episodes: {', '.join(f'{n} {end}' for end, n in sorted(ends.items()))}; {lives}"


def end_of(id_, of_it, places):
    """How an id ended, in a word, and what is wrong with that."""
    first, last = of_it[0], of_it[-1]
    held = places.content_held(id_)
    shipped, quarantined = places.shipped.get(id_, []), places.quarantine.get(id_, [])
    stands = places.episodes.get(id_)
    conflict = id_ in places.conflicts
    if "changing" in last.steps:
        # Its archive from before may be the last copy of what it was, and is put aside.
        before, quarantined = put_aside(id_, of_it, places, quarantined)
        if before:
            return "quarantined", before
    if last.fate in QUARANTINED:
        return quarantine_end(last, held, shipped, quarantined, stands)
    if last.was_removed() and stands is None and not shipped:
        return "removed", [] if held is None else differ("held", last.content, held)
    if quarantined:
        return "quarantined", [f"is in quarantine: {reason_of(quarantined)}"]
    if last.fate in ("twin", "rival"):
        return second_end(first, last, places, held, shipped, stands, conflict)
    if conflict:
        if last.after is None:
            return "conflict", ["is a conflict that nobody made"]
        wrong = differ("held", last.content, held) + shipped_nowhere(shipped)
        return "in conflict once changed", wrong + differ("in episodes/", last.after, content_open(stands))
    if shipped:
        if not last.was_built():
            return "shipped", ["was never sealed, and is in shipped/"]
        content = last.after if {"changed"} <= last.steps else last.content
        if held != content and last.after and "too late" not in last.steps and held == last.after:
            # It was killed between the change and the note of it.
            content = last.after
        wrong = differ("held", content, held) + [f"is {len(shipped)} times in shipped/"] * (len(shipped) != 1)
        wrong += ["is in episodes/ as well"] * (stands is not None)
        return ("changed in time" if content is last.after else "shipped"), wrong + differ("in shipped/", content, content_filed(*shipped[0]))
    # Nothing of it has been acknowledged, so it must be that it was never sealed, or is not any
    # more.
    if "reopened" in last.steps and "sealed again" not in last.steps:
        if held not in (None, last.content):
            return "opened again", differ("held", last.content, held)
        return "opened again", open_end(stands, [last.content, last.after])
    if last.was_sealed():
        return "lost", [f"is lost: nothing of it in shipped/; {'in episodes/' if stands else 'not in episodes/'}; "
                        f"{'held' if held else 'not held'} by the receiver"]
    if held is not None:
        return "never sealed", ["is held, and was never sealed"]
    return "never sealed", ["has a marker"] * (stands is not None and (stands / MARKER).exists())


def put_aside(id_, of_it, places, quarantined):
    """What is wrong with the archives of it that were put aside, and the rest of what is in quarantine."""
    wrong, rest = [], []
    contents = [content for one in of_it for content in (one.content, one.after)]
    for path, paper in quarantined:
        archive = path / f"{id_}.tar.zst"
        verdict = paper and json.loads(paper.read_text(encoding="utf-8")).get("verdict")
        if verdict != "orphan" or not archive.is_file():
            rest.append((path, paper))
        elif places.content_packed(id_, archive) not in contents:
            wrong.append(f"{path.name} in quarantine/ is an archive of something else")
    return wrong, rest


def quarantine_end(last, held, shipped, quarantined, stands):
    wrong = ["is held by the receiver"] * (held is not None) + shipped_nowhere(shipped)
    if not quarantined:
        return "never sealed", wrong + ["is not in quarantine"] * last.was_sealed()
    path, paper = quarantined[0]
    status = json.loads(paper.read_text(encoding="utf-8"))["status_code"]
    wrong += [f"is {len(quarantined)} times in quarantine/"] * (len(quarantined) != 1)
    wrong += [f"was refused with {status}"] * (status != QUARANTINED[last.fate])
    wrong += ["is in episodes/ as well"] * (stands is not None)
    if last.fate != "damaged":
        wrong += differ("in quarantine/", last.content, content_filed(path, paper))
    return "quarantined as they should be", wrong


def second_end(first, last, places, held, shipped, stands, conflict):
    """An id that was recorded twice, the first time with success."""
    wrong = differ("held", first.content, held)
    for path, paper in shipped:
        wrong += differ(f"{path.name} in shipped/", first.content, content_filed(path, paper))
    wrong += [f"is {len(shipped)} times in shipped/"] * (len(shipped) not in (1, 2))
    if last.fate == "twin":
        wrong += ["is a conflict, and the same as before"] * conflict
        # On its way to another file system it is taken for the source of a copy that was not
        # removed: the same is there.
        is_there = len(shipped) == 2 or places.is_apart
        wrong += ["the second time was not shipped"] * (last.was_sealed() and (stands is not None or not is_there))
        return "twins", wrong
    wrong += ["is twice in shipped/"] * (len(shipped) == 2)
    if last.was_sealed() or conflict:
        wrong += ["is no conflict"] * (not conflict) + differ("in episodes/", last.content, content_open(stands))
    return "rivals", wrong


def shipped_nowhere(shipped):
    return ["is in shipped/"] * bool(shipped)


def open_end(stands, contents):
    found = content_open(stands)
    return [] if found in contents else differ("in episodes/", contents[0], found)


def content_open(stands):
    """What stands in episodes/. A receipt in it proves nothing there, and may have been left by a kill."""
    if stands is None:
        return None
    found = without_marker(listing(stands))
    return {name: about for name, about in found.items() if not name.startswith((f"{RECEIPT}~", f"{REASON}~")) and not is_ours(stands / name)}


def is_ours(path):
    if path.name not in (RECEIPT, REASON):
        return False
    try:
        return "episode_id" in json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return False


def differ(where, expected, found):
    if found is None:
        return [f"is not {where}"]
    return [f"{where}, {word}" for word in differences(expected or {}, found)[:3]]


def reason_of(quarantined):
    path, paper = quarantined[0]
    return paper.read_text(encoding="utf-8")[:300] if paper else f"{path.name} without a reason"


def strangers(recorded, places):
    """What stands somewhere, and nobody has recorded."""
    known = set(recorded)
    of_recorders = {one.place for of_it in recorded.values() for one in of_it}
    for where in ("held", "shipped", "quarantine"):
        for id_ in getattr(places, where).keys() - known:
            yield f"{where}: {id_!r}, which nobody recorded"
    for name in places.episodes.keys() - known - of_recorders:
        if not name.startswith((".stage-", ".removed-")):
            yield f"episodes/: {name!r}, which nobody recorded"
    # What is sent without a copy has no archive there: its conflict is noted alone.
    notes = {f"{id_}.json" for id_ in places.conflicts}
    archives = {f"{id_}.tar.zst" for id_ in places.conflicts}
    for name in places.outbox - notes - archives - {AT_WORK}:
        yield f"outbox/: {name!r} is left over"
    for name in notes - places.outbox:
        yield f"outbox/: {name!r} is missing: the conflict is noted nowhere"


def leftovers(lane):
    """Scratch of ours that somebody has left."""
    for disk in ("data", "away", "store"):
        for folder, folders, files in os.walk(lane.folder / disk):
            for name in folders + files:
                if name == AT_WORK and pathlib.Path(folder).name in ("episodes", "outbox", "shipped", "quarantine"):
                    continue
                if name.startswith(".sealift-") or name.endswith((".tar.zst.partial", ".part")):
                    yield f"{os.path.join(folder, name)} is left over"
    for left in (lane.folder / "store" / "incoming").iterdir():
        yield f"{left} is left over"


def alarms(lane):
    for log in (lane.folder / "logs").glob("*.log"):
        said = log.read_bytes()
        for found in ALARMS.finditer(said):
            yield f"{log.name}: {said[max(0, found.start() - 200) : found.end() + 300].decode(errors='replace')}"
        if lane.kind.is_guarded and (found := ALTERED.search(said)):
            yield f"{log.name}: bytes were altered where TLS is on: {said[max(0, found.start() - 200) : found.end() + 100].decode(errors='replace')}"
