"""What happens in a run, and when. All of it is drawn from the seed before anything starts."""

import dataclasses
import random

# What the proxy does to those who come by (proxy.py): each in its turn, in an order that is drawn
# anew each time. `fair` twice, since something must get through meanwhile.
MOODS = ["fair", "fair", "mixed", "cutting", "slow", "lying", "lying", "garbling", "repeating", "deaf", "closed", "steady", "steady"]
SHORTEST_MOOD_S = 1.5
# While everything goes slowly, the way breaks, and as soon as what had arrived is gone on with, the
# receiver is killed: what it has then is more than it has noted.
BREAK_AFTER_S, KILL_AFTER_S, STEADY_S = 2.5, 4.5, 5.5

# Who is killed or stopped, by weight.
ROLES = {"shipper": 5, "receiver": 4, "proxy": 1, "recorder": 2}
SIGNALS = {"KILL": 5, "TERM": 3, "STOP": 3}

# What faketime(1) takes. None is between keeping 30 days and the release of the program, where a
# wrong clock could not be told from a true one; and no two of them, one at each end, agree with
# each other about another day than today.
CLOCKS = {
    "shipper": ["+1h", "-1h", "+20d", "+4000d", "@2000-01-01 00:00:00", "+0"],
    "receiver": ["+2h", "+10d", "@2001-01-01 00:00:00", "+0"],
}


@dataclasses.dataclass(frozen=True)
class Step:
    at_s: float
    lane: str
    what: str
    args: tuple

    def __str__(self):
        return f"{self.at_s:9.2f} s  {self.lane:9} {self.what} {' '.join(map(str, self.args))}"


def plan(seed, seconds, lanes):
    """The steps of a run, in their order."""
    steps = []
    for lane in lanes:
        steps += moods(random.Random(f"{seed}/{lane}/mood"), seconds, lane)
        for what, every_s, draw in EVENTS:
            dice = random.Random(f"{seed}/{lane}/{what}")
            at_s = dice.expovariate(1 / every_s)
            while at_s < seconds:
                steps.append(Step(round(at_s, 2), lane, what, draw(dice)))
                at_s += dice.expovariate(1 / every_s)
    return sorted(steps, key=lambda step: step.at_s)


def moods(dice, seconds, lane):
    """Short and long ones alike: an outage may take a twelfth of the run."""
    longest_s = max(6, seconds / 12)
    at_s = 0.0
    deck = []
    while at_s < seconds:
        deck = deck or dice.sample(MOODS, len(MOODS))
        mood = deck.pop()
        yield Step(round(at_s, 2), lane, "mood", (mood,))
        if mood == "steady":
            yield Step(round(at_s + BREAK_AFTER_S, 2), lane, "signal", ("proxy", "KILL", 0))
            yield Step(round(at_s + KILL_AFTER_S, 2), lane, "signal", ("receiver", "KILL", 0))
            at_s += STEADY_S
        else:
            at_s += SHORTEST_MOOD_S * (longest_s / SHORTEST_MOOD_S) ** dice.random()


def drawn(dice, weights):
    return dice.choices(list(weights), weights=list(weights.values()))[0]


def draw_signal(dice):
    return drawn(dice, ROLES), drawn(dice, SIGNALS), round(dice.choice([0, dice.uniform(0, 4)]), 2)


def draw_fill(dice):
    return dice.choice(["data", "store"]), dice.choice([0, 8, 64, 300]), round(dice.uniform(0.5, 6), 2)


def draw_clock(dice):
    role = dice.choice(list(CLOCKS))
    return role, dice.choice(CLOCKS[role])


EVENTS = [
    # What, once in so many seconds on the average, and with what.
    ("signal", 4, draw_signal),
    ("fill", 12, draw_fill),
    ("clock", 9, draw_clock),
    ("reload", 20, lambda dice: (dice.choice(["oldest-first", "newest-first"]),)),
]
