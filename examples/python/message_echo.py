"""Sends a message to a card that loops it back (capric), receives it, and compares.

    python3 message_echo.py 0 hello
"""

from __future__ import annotations

import argparse
import sys

import pciedma


def echo(channel: pciedma.Channel, text: bytes) -> None:
    """Send *text* and receive as much; raises ValueError if it is something else."""
    sent = channel.write(text)
    answer = channel.read(sent)
    if answer != text:
        raise ValueError(f"{len(answer)} bytes came back, and not those sent")
    print(f"{sent} bytes there and back: {answer.decode()}")


def main() -> int:
    """Run; the exit status is 0 if the text came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("card", help="a number, a PCI address, or the path of its node")
    parser.add_argument("text", nargs="?", default="hello")
    arguments = parser.parse_args()
    try:
        with pciedma.open(arguments.card) as card, card.channel(0) as channel:
            if channel.kind is not pciedma.Kind.MESSAGE:
                raise ValueError("channel 0 is not for messages")
            if channel.info.h2c:
                print(f"messages of up to {channel.info.h2c.max_dma} bytes")
            echo(channel, arguments.text.encode())
    except (OSError, ValueError) as error:
        print(f"message_echo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
