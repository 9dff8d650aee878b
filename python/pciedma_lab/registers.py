"""How a card's registers are declared: once, and readable like the data sheet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Access(Enum):
    """What software may do with a field, in the data sheets' words."""

    RW = "RW"
    RO = "RO"
    W1C = "R/W1C"
    W1S = "R/W1S"
    RC = "RC"


_WRITABLE = (Access.RW, Access.W1C, Access.W1S)


@dataclass(frozen=True)
class Field:
    """Bits ``high:low`` of a register; ``inferred`` marks what no source says.

    ``reset`` is None where the value after a reset is undefined.
    """

    high: int
    low: int
    name: str
    access: Access
    reset: int | None
    meaning: str
    inferred: bool = False

    @property
    def mask(self) -> int:
        """The bits, in place."""
        return ((1 << (self.high - self.low + 1)) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """A 32-bit register at ``offset`` bytes into its BAR; raises ValueError if fields overlap."""

    name: str
    offset: int
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        """Find slips of the pen."""
        taken = 0
        for field in self.fields:
            if not 31 >= field.high >= field.low >= 0 or field.mask & taken:
                raise ValueError(f"{self.name}.{field.name} takes bits of another field, or beyond bit 31")
            taken |= field.mask

    def mask(self, *names: str) -> int:
        """Return the bits of the named fields; raises KeyError for an unknown name."""
        by_name = {field.name: field.mask for field in self.fields}
        return sum(by_name[name] for name in names)

    @property
    def writable(self) -> int:
        """All bits that a write changes."""
        return sum(field.mask for field in self.fields if field.access in _WRITABLE)

    @property
    def defined(self) -> int:
        """All bits that are not reserved."""
        return sum(field.mask for field in self.fields)

    @property
    def reset(self) -> int:
        """The value after a reset, with 0 where it is undefined."""
        return sum((field.reset or 0) << field.low for field in self.fields)


def bit(number: int, name: str, access: Access, meaning: str, *, inferred: bool = False) -> Field:
    """Declare a field of one bit that resets to 0."""
    return Field(number, number, name, access, 0, meaning, inferred)


def names(*maps: tuple[int, tuple[Register, ...]]) -> dict[tuple[int, int], str]:
    """Return the registers' names by BAR and offset, for maps given as BAR and registers."""
    return {(bar, register.offset): register.name for bar, registers in maps for register in registers}
