"""Reads blocks of a card's memory into numpy arrays without a copy, and computes on them where they lie.

    python3 numpy_blocks.py 0 0x1000 --blocks 64

The arrays are parts of one buffer that the card knows: nothing is pinned, mapped or copied for a block. Needs numpy
(python3-numpy), which the binding itself does not.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pciedma

try:
    import numpy
except ImportError:
    sys.exit("numpy_blocks: there is no numpy: sudo apt install python3-numpy")

#: 16-bit samples of a block.
SAMPLES = 8192


def expected(blocks: int) -> Any:
    """Return what the card is to have: blocks of a triangle, each louder than the one before."""
    triangle = numpy.abs(numpy.arange(SAMPLES) % 64 - 32) - 16
    return (triangle * numpy.arange(1, blocks + 1)[:, None]).astype("<i2")


def run(channel: pciedma.Channel, address: int, blocks: int) -> None:
    """Write blocks, read one after the other, and compute; raises ValueError if the figures are not right."""
    signal = expected(blocks)
    with channel.buffer(signal.nbytes) as buffer:
        samples: Any = numpy.frombuffer(buffer, "<i2").reshape(blocks, SAMPLES)  # the memory itself
        samples[:] = signal
        channel.write(samples, address)
        samples[:] = 0
        for number, block in enumerate(samples):
            channel.readinto(block, address + number * block.nbytes)
        peaks = numpy.abs(samples).max(axis=1)
        same = numpy.array_equal(samples, signal)
        del samples, block  # views keep the buffer from being closed
    if not same or not numpy.array_equal(peaks, 16 * numpy.arange(1, blocks + 1)):
        raise ValueError("what was read is not what was written")
    print(f"{blocks} blocks of {SAMPLES} samples read as written; peaks {peaks[0]} to {peaks[-1]}")


def main() -> int:
    """Run; the exit status is 0 if all blocks were right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", help="a number, a PCI address, or the path of its node")
    parser.add_argument("address", type=lambda text: int(text, 0), help="in the card's memory, where it is written to")
    parser.add_argument("--blocks", type=int, choices=range(1, 2048), metavar="N", default=64, help="of 16 KiB each")
    arguments = parser.parse_args()
    try:
        with pciedma.open(arguments.card) as card, card.channel(0) as channel:
            if channel.kind is not pciedma.Kind.MEMORY:
                raise ValueError("channel 0 is not memory")
            run(channel, arguments.address, arguments.blocks)
    except (OSError, ValueError) as error:
        print(f"numpy_blocks: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
