"""A recorder: makes episodes of many kinds until it is told to stop (SIGTERM) or killed, and notes what it does.

    recorder.py LANE-FOLDER LIFE SEED EVERY-S SEALIFT

Each line of LANE-FOLDER/notes/LIFE.jsonl is a step of one episode, written before or after what it says as its name tells:

    begun ─▶ built (what is in it) ─▶ sealed ─▶ changing (what will be in it) ─▶ changed
      └──────────┴──▶ given up: no room    │         └──▶ too late: it has been moved meanwhile
                                           └▶ removing ─▶ removed

What was only about to be done when a kill came may have happened or not; the judge takes either.
"""

import errno
import heapq
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import episodes
from listing import MARKER, described, listing

# How often, by weight. All but `plain` end in a way of their own (judge.py).
FATES = {"plain": 60, "twin": 4, "rival": 5, "changed": 8, "reopened": 4, "damaged": 4, "stale": 3, "huge": 1, "removed": 4, "left open": 3}
HUGE_BYTES = 9 << 20
NAME_FREE_WITHIN_S = 60


class Recorder:
    def __init__(self, lane, life, seed, every_s, sealift):
        self.episodes = os.path.join(lane, "data", "episodes")
        self.shipped = os.path.join(lane, "shipped")
        self.sealift = sealift
        self.life = life
        self.every_s = every_s
        self.dice = random.Random(f"{seed}/{life}")
        # Where the receiver has a window, it has a largest size as well.
        self.choosy = os.path.exists(os.path.join(lane, "commits"))
        self.notes = os.open(os.path.join(lane, "notes", f"{life}.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.later = []
        self.numbers = itertools.count()
        self.sealed = {}
        self.stopping = False

    def note(self, number, step, **more):
        line = json.dumps({"number": f"{self.life}-{number}", "step": step, **more})
        os.write(self.notes, line.encode() + b"\n")

    def run(self):
        while not self.stopping:
            if self.later and self.later[0][0] <= time.monotonic():
                heapq.heappop(self.later)[2]()
                continue
            self.record()
            until = time.monotonic() + self.dice.expovariate(1 / self.every_s)
            while not self.stopping and (left_s := min([until] + [due for due, *_ in self.later[:1]]) - time.monotonic()) > 0:
                time.sleep(min(left_s, 0.2))

    def record(self):
        number = next(self.numbers)
        fate = self.dice.choices(list(FATES), weights=list(FATES.values()))[0]
        if fate in ("stale", "huge") and not self.choosy:
            fate = "plain"
        held = [name for name in self.sealed if os.path.exists(os.path.join(self.shipped, name))]
        # Across file systems an episode is in both folders for a while, and for longer where its
        # shipper is killed then.
        held = [name for name in held if not os.path.lexists(os.path.join(self.episodes, name))]
        if fate in ("twin", "rival") and not held:
            fate = "plain"
        if fate in ("twin", "rival"):
            name = self.dice.choice(sorted(held))
        else:
            name = f"{self.life}-{number}{self.dice.choice(episodes.ID_ENDINGS)}"
        # Out of sight, or where the shipper looks on.
        place = name if self.dice.random() < 0.5 and fate not in ("twin", "damaged") else f".{name}"[:250]
        folder = os.path.join(self.episodes, place)
        self.note(number, "begun", id=name, fate=fate, place=place)
        try:
            when_free(lambda: os.mkdir(folder))
            content = self.fill(folder, fate, name)
            if fate == "left open":
                return
            self.seal(number, folder, os.path.join(self.episodes, name), fate, content)
        except OSError as error:
            if not is_for_want_of_room(error):
                raise
            shutil.rmtree(folder, ignore_errors=True)
            self.note(number, "given up")
            return
        self.note(number, "sealed")
        earlier = self.sealed.pop(name, None)
        if fate == "plain" and not earlier:
            self.sealed[name] = content
        if fate in ("changed", "reopened"):
            due = time.monotonic() + self.dice.choice([0, self.dice.uniform(0, 8)])
            heapq.heappush(self.later, (due, number, lambda: self.change(number, name, fate, content)))
        if fate == "removed":
            heapq.heappush(self.later, (time.monotonic() + self.dice.uniform(0, 4), number, lambda: self.remove(number, name)))

    def fill(self, folder, fate, name):
        """Makes what there is to record, and says what that is; the marker of a twin is part of it."""
        if fate == "twin":
            os.rmdir(folder)
            shutil.copytree(os.path.join(self.shipped, name), folder, symlinks=True)
            # All but the receipt.
            for path in listing(folder).keys() - self.sealed[name].keys() - {MARKER}:
                os.unlink(os.path.join(folder, path))
        elif fate == "huge":
            episodes.write(folder, "huge.bin", self.dice.randbytes(HUGE_BYTES), self.dice)
            episodes.meta(folder, episodes.TAKEN_COMMIT, self.dice)
        else:
            commit = episodes.STALE_COMMIT if fate == "stale" else episodes.TAKEN_COMMIT
            episodes.build(folder, commit if self.choosy or self.dice.random() < 0.5 else None, self.dice)
        if fate == "damaged" or fate == "rival":
            # Something to damage; and what no earlier recording has.
            episodes.write(folder, "unique.bin", self.dice.randbytes(64), self.dice)
        return listing(folder)

    def seal(self, number, folder, under, fate, content):
        """Makes the marker in one of the ways that there are, and shows the episode under its name."""
        way = self.dice.choice(["touched", "renamed", "by the program"])
        if fate in ("changed", "reopened") and way == "by the program":
            # With a manifest it would be damaged.
            way = "touched"
        if fate == "damaged":
            way = "by the program"
        marker = os.path.join(folder, MARKER)
        if fate == "twin":
            self.note(number, "built", content=content)
        elif way == "by the program":
            self.note(number, "built", content=content)
            sealing = subprocess.run([self.sealift, "seal", folder], capture_output=True, text=True, check=False)
            if sealing.returncode != 0 and not os.path.exists(marker):
                raise OSError(f"seal of {folder!r}: {sealing.stderr}")
        else:
            made = marker if way == "touched" else os.path.join(folder, ".marker")
            self.note(number, "built", content=content)
            with open(made, "w", encoding="utf-8") as file:
                file.write(self.dice.choice(["", "", "sealed by hand\n"]) if way == "renamed" else "")
            # Once it has its marker it may be gone already.
            if made != marker:
                os.rename(made, marker)
        if fate == "damaged":
            with open(os.path.join(folder, "unique.bin"), "r+b") as file:
                file.write(b"other")
        if folder != under:
            when_free(lambda: os.rename(folder, under))

    def change(self, number, name, fate, content):
        """Breaks the one rule. Each change is one rename or removal by path, so that it is made to what stands in
        episodes/, or fails; a write to an open file could go wherever the episode has been moved meanwhile."""
        folder = os.path.join(self.episodes, name)
        stage = os.path.join(self.episodes, f".stage-{self.life}-{number}")
        after = dict(content)
        try:
            files = sorted(path for path, about in content.items() if about[0] == "file" and "/" not in path)
            # Without its commit it might be refused.
            files = [path for path in files if path != "meta.json"]
            changed = self.dice.choice(["late.bin"] + files[:1])
            with open(stage, "wb") as file:
                # An old file is replaced by one of the same length and time.
                file.write(self.dice.randbytes(content[changed][2] if changed in content else 1000))
            if changed in content:
                os.utime(stage, (content[changed][4], content[changed][4]))
            after[changed] = described(stage)
            self.note(number, "changing", content=after)
            if fate == "reopened":
                os.unlink(os.path.join(folder, MARKER))
                self.note(number, "reopened")
            os.rename(stage, os.path.join(folder, changed))
            self.note(number, "changed")
            if fate == "reopened":
                with open(os.path.join(folder, MARKER), "xb"):
                    pass
                self.note(number, "sealed again")
        except OSError as error:
            if error.errno != errno.ENOENT and not is_for_want_of_room(error):
                raise
            if os.path.exists(stage):
                os.unlink(stage)
            self.note(number, "too late")


    def remove(self, number, name):
        """By hand, as somebody may who thinks better of it; out of sight first, so that no half of it is ever there."""
        aside = os.path.join(self.episodes, f".removed-{self.life}-{number}")
        self.note(number, "removing")
        try:
            os.rename(os.path.join(self.episodes, name), aside)
        except FileNotFoundError:
            self.note(number, "too late")
            return
        self.note(number, "removed")
        shutil.rmtree(aside)


def when_free(take):
    """A name that is used again: what had it may be put back there, to be moved once more, by a shipper that was killed
    during its move. It goes again once that shipper has run for a while."""
    until = time.monotonic() + NAME_FREE_WITHIN_S
    while True:
        try:
            return take()
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or time.monotonic() > until:
                raise
        time.sleep(0.05)


def is_for_want_of_room(error):
    # shutil's own error and what `sealift seal` says have it in their words alone.
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error)


def main():
    lane, life, seed, every_s, sealift = sys.argv[1:]
    recorder = Recorder(lane, life, seed, float(every_s), sealift)

    def stop(*_):
        recorder.stopping = True

    signal.signal(signal.SIGTERM, stop)
    recorder.run()


if __name__ == "__main__":
    main()
