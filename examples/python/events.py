"""Waits for interrupts of the user's own logic on a card (XDMA's user interrupts), with asyncio.

    python3 events.py 0 --line 3 --line 4

Anything else that asyncio does goes on meanwhile. A program without asyncio gives the card to poll or select.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

import pciedma


async def fired(card: pciedma.Card) -> None:
    """Wait until one of the lines that the card listens to has fired, or the card is gone."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    loop.add_reader(card.fileno(), event.set)
    try:
        await event.wait()
    finally:
        loop.remove_reader(card.fileno())


async def watch(card: pciedma.Card, lines: list[int], count: int | None, timeout_s: float | None) -> None:
    """Print lines as they fire, *count* times; raises TimeoutError, or CardGoneError once the card is gone."""
    card.listen(lines)
    print("listening", flush=True)
    while count is None or count > 0:
        async with asyncio.timeout(timeout_s):
            await fired(card)
        # Here the card's logic is served, by its registers: a line that it still holds fires again at once.
        for line in sorted(card.events()):
            print(f"line {line} has fired", flush=True)
        count = None if count is None else count - 1


def main() -> int:
    """Run; the exit status is 0 if lines have fired as often as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", help="a number, a PCI address, or the path of its node")
    parser.add_argument("--line", type=int, action="append", help="from 0; default: all that the card has")
    parser.add_argument("--count", type=int, help="events to wait for; default: no end")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="for each; default: for ever")
    arguments = parser.parse_args()
    try:
        with pciedma.open(arguments.card) as card:
            if not card.info.event_lines:
                raise ValueError(f"the card {card.info.name} has no event lines")
            lines = arguments.line or list(range(card.info.event_lines))
            asyncio.run(watch(card, lines, arguments.count, arguments.timeout))
    except TimeoutError:
        print(f"events: nothing for {arguments.timeout} s", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"events: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
