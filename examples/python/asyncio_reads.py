"""Has many reads of a card's memory under way at once, each awaited by a task of its own; no thread waits for them.

    python3 asyncio_reads.py 0 0x1000 --count 1000

The driver tells the event loop by an eventfd. Anything else that asyncio does goes on meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import pciedma

#: Bytes of a read.
BLOCK = 4096


def content(number: int) -> bytes:
    """Return what the card has of a block: its number, again and again."""
    return number.to_bytes(4, "little") * (BLOCK // 4)


async def check(channel: pciedma.Channel, address: int, number: int) -> None:
    """Read a block; raises ValueError if it is not what was written."""
    data = await channel.read_async(BLOCK, address + number * BLOCK)
    if data != content(number):
        raise ValueError(f"block {number} is not what was written")


async def run(channel: pciedma.Channel, address: int, count: int) -> None:
    """Write all blocks, then read all at once; raises the first error."""
    await channel.write_async(b"".join(map(content, range(count))), address)
    await asyncio.gather(*(check(channel, address, number) for number in range(count)))
    threads = len(list(Path("/proc/self/task").iterdir()))
    print(f"{count} reads of {BLOCK} bytes at once, read as written; threads: {threads}")


def main() -> int:
    """Run; the exit status is 0 if all blocks were right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", help="a number, a PCI address, or the path of its node")
    parser.add_argument("address", type=lambda text: int(text, 0), help="in the card's memory, where it is written to")
    parser.add_argument("--count", type=int, default=1000, help="blocks of 4 KiB")
    arguments = parser.parse_args()
    try:
        with pciedma.open(arguments.card) as card, card.channel(0) as channel:
            if channel.kind is not pciedma.Kind.MEMORY:
                raise ValueError("channel 0 is not memory")
            asyncio.run(run(channel, arguments.address, arguments.count))
    except (OSError, ValueError) as error:
        print(f"asyncio_reads: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
