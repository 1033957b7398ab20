"""Range asymmetric numeral systems: an entropy coder whose message is a stack, in exact integers.

What was pushed last is popped first. Popping by a distribution nothing was pushed by draws from it, and
pushing that value by the same distribution gives back the very bits it was drawn by. Several heads work side
by side (lanes) on one stack of 16-bit words. Values are places on a grid, under a normal each, whose bins at
both ends are open; the normal's distribution function is read from a table of integers, so that whoever
packs and whoever unpacks computes the same.

A draw right after a push would be its echo: a value from the tail of its normal would be followed by one from
the tail of the next. What is `stirred` reads the bits in another order, and so draws as if they were fresh.

Sources: Duda (2009), "Asymmetric numeral systems"; Giesen (2014), "Interleaved entropy coders".
"""

__all__ = ["LEVELS", "Grid", "Message"]

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

LANES = 64
WORD = 16
LOWEST = 2**47  # of a head, which stays below 2^63
PRECISION = 30  # bits of a probability; none is smaller than 2^-30
STIR = 0x2C9277B5  # odd, so that multiplying by it permutes 0 .. 2^PRECISION - 1
UNSTIR = pow(STIR, -1, 2**PRECISION)
STEPS, REACH = 2**15, 8  # of the table: so many for each standard deviation, and how far it reaches


@dataclass(frozen=True)
class Grid:
    """`count` bins of width `spacing`, the first one from `low` on."""

    low: float
    spacing: float
    count: int

    def values(self, places: Tensor) -> Tensor:
        """The middles of these bins, float64."""
        return self.low + (places.double() + 0.5) * self.spacing

    def cumulative(self, places: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """The normal's mass below each bin, of 2^PRECISION in all; it grows by at least 1 from bin to bin."""
        distance = ((self.low + places * self.spacing - mean) / std * STEPS).round()
        below = _table()[distance.clamp(-REACH * STEPS, REACH * STEPS).long() + REACH * STEPS]
        below = (below * (2**PRECISION - self.count) >> PRECISION) + places
        return below.where(places < self.count, 2**PRECISION).where(places > 0, 0)

    def holding(self, slot: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The places (N,) whose parts of 0 .. 2^PRECISION - 1 hold the slots, where these begin and end."""
        scale, guess = 2**PRECISION - self.count, torch.zeros_like(slot)
        for _ in range(2):  # the part that grows by 1 from bin to bin needs the place itself
            z = torch.special.ndtri(((slot - guess) / scale).clamp(2.0**-60, 1))
            guess = ((mean + std * z - self.low) / self.spacing).clamp(0, self.count - 1).long()
        places = (guess + NEAR).clamp(0, self.count)  # (4, N)
        edges = self.cumulative(places, mean, std)
        at = (edges <= slot).sum(0, keepdim=True) - 1
        if ((at < 0) | (at > 2)).any():  # a guess that was not near
            places, at = self._searched(slot, mean, std) + NEAR, torch.ones_like(at)
            edges = self.cumulative(places, mean, std)
        return places.gather(0, at)[0], edges.gather(0, at)[0], edges.gather(0, at + 1)[0]

    def _searched(self, slot: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        low, high = torch.zeros_like(slot), torch.full_like(slot, self.count)
        while (high - low).max() > 1:
            middle = (low + high) >> 1
            above = self.cumulative(middle, mean, std) > slot
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return low


NEAR = torch.tensor([[-1], [0], [1], [2]])  # a guess, in bins
LEVELS = Grid(-1 - 1 / 255, 2 / 255, 256)  # of a pixel, as the decoder of eq. 13 in Ho et al. (2020) has them


@lru_cache(maxsize=1)
def _table() -> Tensor:
    z = torch.arange(-REACH * STEPS, REACH * STEPS + 1, dtype=torch.float64) / STEPS
    return (torch.special.ndtr(z) * 2**PRECISION).round().long().cummax(0).values


class Message:
    """A stack of bits. Popped beyond its end it borrows random words, which it lays at its bottom."""

    def __init__(self, source: torch.Generator) -> None:
        self._source = source
        self._heads = torch.randint(LOWEST, 2**63 - 1, (LANES,), generator=source)
        self._first = self._head_bits()
        self._words: list[int] = []
        self.borrowed = 0  # words

    @classmethod
    def read(cls, content: bytes, source: torch.Generator) -> "Message":
        """The message that `written` wrote."""
        message, edge = cls(source), 8 * LANES
        heads = [content[at : at + 8] for at in range(0, edge, 8)]
        words = [content[at : at + 2] for at in range(edge, len(content), 2)]
        message._heads = torch.tensor([int.from_bytes(each, "little") for each in heads])
        message._words = [int.from_bytes(each, "little") for each in words]
        return message

    def written(self) -> bytes:
        """The heads, 8 bytes each, then the words, 2 bytes each, from the bottom up."""
        heads = [head.to_bytes(8, "little") for head in self._heads.tolist()]
        return b"".join([*heads, *(word.to_bytes(2, "little") for word in self._words)])

    @property
    def borrowed_bits(self) -> int:
        """The bits it began with, 64 in each head, and the words laid at its bottom since."""
        return 64 * LANES + WORD * self.borrowed

    @property
    def num_bits(self) -> float:
        """What it holds beyond what it began with and what it borrowed; negative while bits are owed."""
        return self._head_bits() - self._first + WORD * (len(self._words) - self.borrowed)

    def push(self, grid: Grid, places: Tensor, mean: Tensor, std: Tensor, *, stirred: bool = False) -> None:
        """Lays the places (N,) on top, each under the normal of its mean and std, float64 (N,)."""
        start = grid.cumulative(places, mean, std)
        size = grid.cumulative(places + 1, mean, std) - start
        for first in reversed(range(0, len(places), LANES)):
            part = slice(first, first + LANES)
            self._push(start[part], size[part], UNSTIR if stirred else 1)

    def pop(self, grid: Grid, mean: Tensor, std: Tensor, *, stirred: bool = False) -> Tensor:
        """Takes as many places (N,) off the top as there are means: those pushed alike, or drawn ones."""
        pairs = zip(mean.split(LANES), std.split(LANES), strict=True)
        return torch.cat([self._pop(grid, *each, STIR if stirred else 1) for each in pairs])

    def _head_bits(self) -> float:
        return self._heads.double().log2().sum().item()

    def _push(self, start: Tensor, size: Tensor, factor: int) -> None:
        heads = self._heads[: len(start)]
        for _ in range(2):  # words leave a head at most
            full = heads >> (63 - PRECISION) >= size
            self._words += (heads[full] & (2**WORD - 1)).tolist()
            heads = torch.where(full, heads >> WORD, heads)
        slot = (heads % size + start) * factor & (2**PRECISION - 1)
        self._heads[: len(start)] = (heads // size << PRECISION) + slot

    def _pop(self, grid: Grid, mean: Tensor, std: Tensor, factor: int) -> Tensor:
        heads = self._heads[: len(mean)]
        slot = (heads & (2**PRECISION - 1)) * factor & (2**PRECISION - 1)
        places, start, end = grid.holding(slot, mean, std)
        heads = (end - start) * (heads >> PRECISION) + slot - start
        for bound in (LOWEST >> WORD, LOWEST):  # what lacks two words had them pushed last
            lacks = heads < bound
            words = torch.tensor(self._take(int(lacks.sum())), dtype=torch.int64)
            heads[lacks] = (heads[lacks] << WORD) | words
        self._heads[: len(mean)] = heads
        return places

    def _take(self, count: int) -> list[int]:
        """The top words, the topmost last; where they are too few, with borrowed ones below."""
        if (lacking := count - len(self._words)) > 0:
            self.borrowed += lacking
            borrowed = torch.randint(2**WORD, (lacking,), generator=self._source).tolist()
            self._words = borrowed + self._words
        taken = self._words[len(self._words) - count :]
        del self._words[len(self._words) - count :]
        return taken
