"""The driver's modules, built for a kernel in its distribution's chroot."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path

from pciedma import __version__

from . import cache, kernels, project
from .chroot import PROJECT

BUILD = PROJECT / "build"

#: What a kernel says about the surroundings of a build, not about our sources.
_HARMLESS = ("BTF generation", "compiler differs", "pahole version differs", "The kernel was built ", "You are using")

#: What a build leaves beside its sources.
_PRODUCT = re.compile(r".*\.(o|ko|mod|mod\.c|a|cmd|d|gcno)|modules\.order|Module\.symvers")


class BuildFailed(cache.LabError):
    """The compiler refused, or warned where warnings are errors; the text is what it said.

    ``warnings`` counts them if nothing worse happened.
    """

    def __init__(self, text: str, warnings: int = 0) -> None:
        """Keep what the compiler said."""
        super().__init__(text)
        self.warnings = warnings


def built(series: str, cards: Sequence[Path] = ()) -> Path:
    """Return the folder of the modules built for a kernel series, with the back ends of *cards* as for build()."""
    return BUILD / series / _folder("modules", cards)


def build(
    series: str, cards: Sequence[Path] = (), *, warnings_are_errors: bool = False, sparse: bool = False
) -> Path:
    """Build the modules for a kernel series and return their folder.

    *cards* are the files of models outside the project: the back ends beside them are built as if they were in
    ``src/cards``, in place of those that have the same names there. Only what has changed is compiled again, unless
    *sparse* or *warnings_are_errors* asks for all of it: then the work is done in a folder beside. Threads and
    processes that build for the same series wait for each other. Raises BuildFailed with the compiler's output,
    LabError if the kernel cannot be had.
    """
    kernel = kernels.provide(series)
    checked = sparse or warnings_are_errors
    copy = BUILD / series / _folder("checked" if checked else "src", cards)
    with cache.locked(BUILD / series / "lock"):
        if checked:
            cache.remove(copy)
        back_ends, replaced = _back_ends(cards), _replaced(cards)
        for name in sorted({path.stem.partition("_")[0] for path in replaced}):
            cache.say(f"the card {name} is not the driver's own, but yours")
        mirror(project.SOURCE, copy, back_ends, replaced)
        output = _make(kernel, copy, sparse)
        if warnings_are_errors and (lines := warnings(output)):
            text = f"the modules for {series} ({kernel.release}) have warnings:\n{output}"
            raise BuildFailed(text, count_warnings(lines))
        _publish(copy, built(series, cards))
    return built(series, cards)


def _folder(name: str, cards: Sequence[Path]) -> str:
    """Return the name of a folder that cards of the same names from elsewhere do not share."""
    if not cards:
        return name
    key = hashlib.sha256("\0".join(str(card.resolve()) for card in cards).encode()).hexdigest()[:8]
    return "-".join([name, *(card.stem for card in cards), key])


def _check_name(card: Path) -> None:
    """Raise LabError if a card has no back end, or has a name by which that would not be built."""
    if "_" in card.stem:
        whole = card.stem.partition("_")[0]
        raise cache.LabError(f"{card}: {card.stem}.c would be a part of a card {whole}; name yours with no underscore")
    if not card.with_suffix(".c").exists():
        raise cache.LabError(f"{card} has no back end beside it: {card.stem}.c")


def _of_card(folder: Path, name: str) -> list[Path]:
    """Return the sources that a card has in a folder."""
    return [path for pattern in (f"{name}.[ch]", f"{name}_*.[ch]") for path in folder.glob(pattern)]


def _replaced(cards: Sequence[Path]) -> set[Path]:
    """Return the places in ``src`` of the driver's cards that have the names of *cards*: no mixture is built."""
    found = [path for card in cards for path in _of_card(project.SOURCE / "cards", card.stem)]
    return {path.relative_to(project.SOURCE) for path in found}


def _back_ends(cards: Sequence[Path]) -> dict[Path, Path]:
    """Return the sources beside the models *cards*, by their places in ``src``.

    Raises LabError if there are none, or for names that the driver cannot have, or not at once.
    """
    found: dict[Path, Path] = {}
    names: dict[str, Path] = {}
    for card in cards:
        _check_name(card)
        if (other := names.setdefault(card.stem, card)).resolve() != card.resolve():
            raise cache.LabError(f"{other} and {card} are two cards {card.stem}; rename one")
        found |= {Path("cards") / path.name: path for path in _of_card(card.parent, card.stem)}
    return found


def build_folder(series: str, source: Path, subfolder: Path = Path()) -> Path:
    """Build other modules than the driver's, by the Kbuild or Makefile in a *subfolder* of the folder *source*.

    All of *source* is copied. Returns the folder with the modules, which modules_in() lists. Raises as build() does.
    """
    if not any((source / subfolder / name).is_file() for name in ("Kbuild", "Makefile")):
        raise cache.LabError(f"{source / subfolder} has neither Kbuild nor Makefile")
    copy = BUILD / series / _foreign(source)
    kernel = kernels.provide(series)
    with cache.locked(BUILD / series / "lock"):
        mirror(source, copy, sources=_whole)
        _make(kernel, copy / subfolder, sparse=False, warns=False)
    return copy / subfolder


def take(series: str, module: Path) -> Path:
    """Return the folder with a copy of a *module* from elsewhere; raises LabError unless it fits the kernel."""
    kernel = kernels.provide(series)
    vermagic = information(module).get("vermagic", [""])[0].partition(" ")[0]
    if vermagic != kernel.release:
        raise cache.LabError(f"{module} is for {vermagic or 'no kernel'}, and not for the guest's {kernel.release}")
    folder = BUILD / series / _foreign(module)
    with cache.locked(BUILD / series / "lock"):
        mirror(module.parent, folder, {Path(module.name): module}, sources=lambda folder: [])
        (folder / "modules.order").write_text(f"{module.name}\n")
    return folder


def _foreign(source: Path) -> str:
    """Return the name of the folder for what is built from *source*, of whatever name."""
    key = hashlib.sha256(str(source.resolve()).encode()).hexdigest()[:8]
    return f"foreign-{re.sub(r'[^A-Za-z0-9]', '_', source.stem)}-{key}"


def modules_in(folder: Path) -> list[Path]:
    """Return the modules that the last build in a folder made, in its order."""
    names = (folder / "modules.order").read_text().split()
    found = [folder / f"{Path(name).stem}.ko" for name in names]
    below = {path.stem: path for path in folder.rglob("*.ko")}  # what a subfolder of its own made lies there
    return [path if path.exists() else below[path.stem] for path in found]


def information(module: Path) -> dict[str, list[str]]:
    """Return what a module says of itself, as modinfo does: by words, as ``parmtype`` for parameters, what they say."""
    found: dict[str, list[str]] = {}
    for word, value in re.findall(rb"(?<=\0)([a-z]+)=([^\0]*)(?=\0)", module.read_bytes()):
        found.setdefault(word.decode(), []).append(value.decode(errors="replace"))
    return found


def _make(kernel: kernels.Kernel, copy: Path, sparse: bool, warns: bool = True) -> str:
    """Run make and return what it said."""
    command = ["make", "-s", "-C", str(kernel.headers), f"M={copy}", f"-j{os.cpu_count()}", *(["W=1"] if warns else [])]
    command.append(f"PCIEDMA_VERSION={__version__}")
    command += kernel.series.make_options
    command.append("CONFIG_DEBUG_INFO_BTF_MODULES=")  # needs tools and the kernel's own image, for nothing here
    if kernel.series.is_debug:
        command.append("GCOV_PROFILE=y")
    if sparse:
        # guard() releases locks where sparse does not look for it
        command += ["C=1", "CHECK=sparse -Wno-context"]
    result = kernel.series.builder.attempt([*command, "modules"])
    if sparse and "C=1 specified, but" in result.stdout:
        raise BuildFailed(f"sparse does not understand the kernel {kernel.release}")
    if result.returncode:
        raise BuildFailed(f"building the modules for {kernel.series.name} ({kernel.release}):\n{result.stdout}")
    return result.stdout


def warnings(output: str) -> list[str]:
    """Return the lines of a build's output that say something about our sources."""
    return [line for line in output.splitlines() if line.strip() and not any(word in line for word in _HARMLESS)]


def count_warnings(lines: list[str]) -> int:
    """Return how many warnings there are in such lines, of which one may take several."""
    return sum("warning:" in line.lower() for line in lines) or len(lines)


def _sources(folder: Path) -> list[Path]:
    """Return a folder's sources; what was built beside them, here or by ``make modules KDIR=...``, is none."""
    found = [*folder.rglob("Kbuild"), *folder.rglob("*.[ch]")]
    return [path for path in found if path.is_file() and not path.name.endswith(".mod.c")]


def _whole(folder: Path) -> list[Path]:
    """Return all files of a folder but for products of builds, and what git keeps."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if not (_PRODUCT.fullmatch(path.name) or ".git" in path.relative_to(folder).parts)]


def mirror(
    source: Path,
    target: Path,
    added: Mapping[Path, Path] | None = None,
    left_out: Container[Path] = (),
    sources: Callable[[Path], list[Path]] = _sources,
) -> None:
    """Make *target* have the sources in *source*; products of the build stay where they are.

    *added* are further files by their places in *target*, and what would be at *left_out* is not taken. *sources* tells
    a folder's sources from its products. What differs gets the time of now, so that make takes it for news: a package's
    files all have that of its changelog.
    """
    found = {path.relative_to(source): path for path in sources(source)}
    wanted = {relative: path for relative, path in found.items() if relative not in left_out} | dict(added or {})
    for path in sources(target):
        if path.relative_to(target) not in wanted:
            path.unlink()
    for relative, old in wanted.items():
        new = target / relative
        if not new.exists() or new.read_bytes() != old.read_bytes():
            new.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)  # it may be read-only, as the one that it is a copy of
            shutil.copy(old, new)


def _publish(copy: Path, target: Path) -> None:
    """Make *target* have the modules in *copy*, each replaced as a whole: a guest may be loading them.

    Those are what the last build lists; a card that is gone has left its module behind.
    """
    target.mkdir(parents=True, exist_ok=True)
    names = [f"{Path(line).stem}.ko" for line in (copy / "modules.order").read_text().splitlines()]
    fresh = {name: copy / name for name in names}
    for name, path in fresh.items():
        temporary = target / f"{name}.new"
        shutil.copy2(path, temporary)
        temporary.rename(target / name)
    for old in target.glob("*.ko"):
        if old.name not in fresh:
            old.unlink()
