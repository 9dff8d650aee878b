"""How a card's registers are declared: once, and readable like the data sheet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Access(Enum):
    """What software may do with a field, in the data sheets' words."""

    RW = "RW"
    RO = "RO"
    W1C = "R/W1C"


@dataclass(frozen=True)
class Field:
    """Bits ``high:low`` of a register; ``inferred`` marks what no source says."""

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
    """A 32-bit register at ``offset`` bytes into its BAR."""

    name: str
    offset: int
    fields: tuple[Field, ...]

    def mask(self, *names: str) -> int:
        """Return the bits of the named fields; raises KeyError for an unknown name."""
        by_name = {field.name: field.mask for field in self.fields}
        return sum(by_name[name] for name in names)

    @property
    def writable(self) -> int:
        """All bits that a write changes."""
        return sum(field.mask for field in self.fields if field.access is not Access.RO)

    @property
    def defined(self) -> int:
        """All bits that are not reserved."""
        return sum(field.mask for field in self.fields)


def bit(number: int, name: str, access: Access, meaning: str, *, inferred: bool = False) -> Field:
    """Declare a field of one bit that resets to 0."""
    return Field(number, number, name, access, 0, meaning, inferred)
