"""What the proxy does to one exchange, or to one connection that it cannot read."""

import dataclasses


@dataclasses.dataclass
class Trick:
    # Seconds until the request goes on.
    delay_s: float = 0
    # Bytes a second, either way.
    rate: float = 0
    # After so many bytes of the request's body, or of the answer, the connection is gone.
    cut_request_at: int | None = None
    cut_answer_at: int | None = None
    # One byte of the request's body is another one; one of an acknowledgement's.
    flip_request_at: int | None = None
    flip_receipt: bool = False
    # An answer of the proxy's own: before the body was read, or after, or though the receiver has
    # it.
    lie: str | None = None
    # So many times the same request once more, so long after its answer.
    repeat: int = 0
    repeat_after_s: float = 0
    # Nothing is ever answered.
    deaf: bool = False
    # The connection is refused, as far as that can be told from closed at once.
    closed: bool = False


def draw(mood, dice, length):
    """A trick for a request with a body of `length` bytes. Now and then there is none, so that something gets through."""
    if mood == "mixed":
        mood = dice.choice(["cutting", "slow", "lying", "garbling", "repeating", "deaf", "closed", "fair"])
    if mood == "steady":
        return Trick(rate=10 ** dice.uniform(5.2, 5.9))
    if mood == "fair" or (mood != "closed" and dice.random() < 0.25):
        return Trick()
    match mood:
        case "cutting":
            if dice.random() < 0.6:
                return Trick(cut_request_at=dice.randint(0, length), rate=dice.choice([0, 2_000_000]))
            return Trick(cut_answer_at=dice.randint(0, 400))
        case "slow":
            return Trick(delay_s=dice.choice([0, dice.uniform(0, 3)]), rate=10 ** dice.uniform(4.5, 6.5))
        case "lying":
            return Trick(lie=dice.choice(["before", "after", "instead"]))
        case "garbling":
            if dice.random() < 0.7:
                return Trick(flip_request_at=dice.randrange(max(1, length)))
            return Trick(flip_receipt=True)
        case "repeating":
            return Trick(repeat=dice.randint(1, 3), repeat_after_s=dice.choice([0, 0, dice.uniform(0, 3)]),
                         cut_answer_at=dice.choice([None, 0]))
        case "deaf":
            return Trick(deaf=True)
        case "closed":
            return Trick(closed=True)
    raise ValueError(mood)


def flipped(piece, at):
    """The piece, with the byte at `at` another one; the same where that is elsewhere."""
    if at is None or not 0 <= at < len(piece):
        return piece
    return piece[:at] + bytes([piece[at] ^ 0x20]) + piece[at + 1 :]
