"""Writes a file to a card's memory, reads it back, and compares; nothing is copied on the way.

    python3 memory_copy.py 0 0x1000 image.bin

The card's engine takes the data from the file's pages, and puts what comes back into memory of this program.
"""

from __future__ import annotations

import argparse
import mmap
import sys
from pathlib import Path

import pciedma

#: A few transfers of the driver's, so that the engine does not wait between them.
PIECE = 16 << 20


def copy(channel: pciedma.Channel, data: memoryview, address: int) -> None:
    """Write and compare, in pieces; raises ValueError if something else is read back."""
    for start in range(0, len(data), PIECE):
        channel.write(data[start : start + PIECE], address + start)
        print(f"written {min(start + PIECE, len(data))} bytes", file=sys.stderr)
    whole = memoryview(mmap.mmap(-1, min(PIECE, len(data))))  # begins with a page
    for start in range(0, len(data), PIECE):
        piece = data[start : start + PIECE]
        buffer = whole[: len(piece)]
        moved = channel.readinto(buffer, address + start)
        if moved < len(buffer):
            raise ValueError(f"the card's memory ends at {address + start + moved:#x}")
        if buffer != piece:
            raise ValueError(f"differs behind {address + start:#x}")
        print(f"compared {start + len(piece)} bytes", file=sys.stderr)
    print(f"{len(data)} bytes at {address:#x} read back as written")


def main() -> int:
    """Run; the exit status is 0 if the card's memory has the file now."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", help="a number, a PCI address, or the path of its node")
    parser.add_argument("address", type=lambda text: int(text, 0), help="in the card's memory")
    parser.add_argument("file", type=Path, help="must not be empty, nor be cut short meanwhile")
    arguments = parser.parse_args()
    try:
        with arguments.file.open("rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        with pciedma.open(arguments.card) as card, card.channel(0) as channel:
            if channel.kind is not pciedma.Kind.MEMORY:
                raise ValueError("channel 0 is not memory")
            copy(channel, data, arguments.address)
    except (OSError, ValueError) as error:
        print(f"memory_copy: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
