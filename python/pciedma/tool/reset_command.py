"""Reset a card, and say whether it works then.

Its engines are stopped, and its configuration space is restored if it was lost. Calls under way that do not end by
themselves end with an error.
"""

from __future__ import annotations

import argparse
import sys

from .. import card

EXIT_STATUS = "0: the card works; 1: it does not, or it cannot be opened"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("card", metavar="CARD", help="its number, node, stable name or PCI address, as list shows them")


def run(arguments: argparse.Namespace) -> int:
    """Reset the card; returns 1 if it does not work then."""
    with card.open(arguments.card) as opened:
        try:
            opened.reset()
        except OSError as error:
            print(f"pciedma: the reset of {opened.path} failed: {error.strerror}; the kernel log (sudo dmesg | grep "
                  "pciedma) says more", file=sys.stderr)
            return 1
        print(f"{opened.path} ({opened.info.name}, {opened.info.pci_address}) was reset and works")
    return 0
