"""What the options of the command ``run`` mean: the machine, its cards, and the modules with their parameters."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from . import cards, guest_agent, modules
from .cache import LabError
from .card_process import EmulatedCard
from .chroot import PROJECT
from .faults import BadFault, Faults
from .machine import Machine

_PARAMETER = re.compile(r'([\w-]+)\.(\w+)=([^"]*)')


def make_cards(names: Sequence[str], faults: Sequence[str]) -> list[EmulatedCard]:
    """Return the emulated cards for ``--card CARD[:VARIANT]`` and ``--fault CARD:FAULT``.

    Raises ValueError for a card that is not there, and for a card of the lab's own without such a variant or fault.
    """
    emulated = [_make_card(text) for text in names if text != "edu"]
    for text in faults:
        name, _, fault = text.partition(":")
        meant = [card for card in emulated if card.name == name and fault]
        if not meant:
            raise ValueError(f"--fault {text}: there is no --card {name} that has faults")
        for card in meant:
            card.faults.append(fault)
    for card in emulated:
        _check(card)
    return emulated


def _make_card(text: str) -> EmulatedCard:
    """Return the card for ``CARD[:VARIANT]``; a path may have colons of its own."""
    name, _, variant = text.rpartition(":")
    if not name or text.endswith(".py"):
        return EmulatedCard(text)
    if name == "edu":
        raise ValueError(f"--card {text}: edu is QEMU's own, and has no variants")
    return EmulatedCard(name, variant=variant)


def _check(card: EmulatedCard) -> None:
    """Raise ValueError for what a card of the lab's own has not; what others have their own process says."""
    if card.source is not None:
        return
    try:
        kind = cards.model(card.name)
    except KeyError as error:
        raise ValueError(f"--card: {error.args[0]}") from None
    if card.variant not in (None, *kind.variants):
        known = ", ".join(kind.variants) or "none"
        raise ValueError(f"--card {card.name}:{card.variant}: the variants of {card.name} are {known}")
    try:
        for fault in card.faults:
            Faults(kind.faults_known).set(fault)
    except BadFault as error:
        raise ValueError(f"--fault {card.name}: {error}") from None


def place(folder: Path) -> tuple[Path | None, str]:
    """Return what of the host the guest must see for a command to run in *folder*, and the folder's name there."""
    if folder.is_relative_to(PROJECT):
        return None, str(guest_agent.PROJECT / folder.relative_to(PROJECT))
    return folder, guest_agent.WORK


def make_machine(arguments: argparse.Namespace) -> Machine:
    """Return the machine; raises ValueError for what cannot be."""
    if arguments.root is not None and not arguments.root.is_dir():
        raise ValueError(f"--root {arguments.root}: there is no such folder")
    return Machine(
        arguments.kernel,
        iommu=arguments.iommu,
        swiotlb_force=arguments.swiotlb,
        memory_mib=arguments.memory,
        cpus=arguments.cpus,
        cards=make_cards(arguments.card, arguments.fault),
        edu=arguments.card.count("edu"),
        results=arguments.results,
        work=place(Path.cwd())[0],
        root=arguments.root,
        packages=arguments.packages,
        time_limit_s=arguments.time_limit,
    )


def build_foreign(series: str, texts: Sequence[str]) -> list[Path]:
    """Return the modules for ``--module FOLDER[:SUBFOLDER]`` or ``--module FILE.ko``, built or copied now."""
    found = []
    for text in texts:
        whole = Path(text)
        source, _, subfolder = (text, "", "") if whole.exists() else text.rpartition(":")
        if whole.is_file():
            found.append(modules.take(series, whole) / whole.name)
        elif source and Path(source).is_dir():
            found += modules.modules_in(modules.build_folder(series, Path(source), Path(subfolder)))
        else:
            raise LabError(f"--module {text}: there is no such folder or file")
    return found


def sort_parameters(texts: Sequence[str], built: Sequence[Path]) -> dict[str, str]:
    """Return for ``--parameter MODULE.NAME=VALUE`` what each module is given, by its name.

    Raises LabError for what none of the modules that were *built* takes: the kernel would only log it.
    """
    known = {path.stem.replace("-", "_"): path for path in built}
    found: dict[str, str] = {}
    for text in texts:
        match = _PARAMETER.fullmatch(text)
        if match is None:
            raise LabError(f"--parameter {text}: it is MODULE.NAME=VALUE, without quotes")
        module, name, value = match[1].replace("-", "_"), match[2], match[3]
        if module not in known:
            raise LabError(f"--parameter {text}: no module {module} is loaded, but {', '.join(known) or 'none'}")
        names = [words.partition(":")[0] for words in modules.information(known[module]).get("parmtype", [])]
        if name not in names:
            raise LabError(f"--parameter {text}: the parameters of {module} are {', '.join(names) or 'none'}")
        word = f'{name}="{value}"' if re.search(r"\s", value) else f"{name}={value}"
        found[module] = f"{found[module]} {word}" if module in found else word
    return found
