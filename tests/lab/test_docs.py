"""The documentation says what the sources say: log lines, errnos, registers, options, pages. Sphinx is not needed."""

from __future__ import annotations

import fnmatch
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pciedma
from pciedma import errors
from pciedma_lab import __main__ as command_line
from pciedma_lab import cards, layers
from pciedma_lab.model import CardModel
from pciedma_lab.registers import Access, Field, Register, bit
from pciedma_lab.xdma import registers as xdma

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
SOURCES = sorted((PROJECT / "src").rglob("*.c"))
TROUBLESHOOTING = (DOCS / "troubleshooting.md").read_text()
MANUAL_OF_THE_LAB = (DOCS / "man/pciedma-lab.1.md").read_text()
SPANS = re.findall(r"`([^`]+)`", TROUBLESHOOTING)

_CALL = re.compile(r"\b(?:(?:dev|pci|pr)_(?:emerg|alert|crit|err|warn|notice|info)\w*|printk\w*)\(")
_LITERAL = re.compile(r'"((?:[^"\\]|\\.)*)"')
_PLACEHOLDER = re.compile(r"%[-0-9.]*(?:ll|l|h)?[a-zA-Z]")
#: Errnos that are the kernel's own, or never reach a program.
_INTERNAL = {"EEXIST", "EINPROGRESS", "EIOCBQUEUED", "ERESTARTNOHAND", "ERESTARTSYS"}
#: What design and manual promise to document, whoever returns it.
_PROMISED = {
    "EINTR", "ETIMEDOUT", "EAGAIN", "EINVAL", "EFAULT", "ENOMEM", "EMSGSIZE", "ENOSPC", "EIO", "ENODEV", "EBUSY",
    "EPERM", "EOPNOTSUPP", "EACCES", "ENOENT",
}


def closing(text: str, begin: int) -> int:
    """Return where the parenthesis that is open at *begin* closes."""
    depth = 1
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[()]', text[begin:]):
        depth += {"(": 1, ")": -1}.get(match[0], 0)
        if not depth:
            return begin + match.start()
    raise AssertionError("a call does not end")


def literals(code: str) -> list[str]:
    """Return a piece of C's string literals, neighbours joined."""
    joined = re.sub(r'"\s+"', "", code)
    return [text.replace('\\"', '"').replace("\\n", "") for text in _LITERAL.findall(joined)]


def messages() -> dict[str, list[str]]:
    """Return each message's format, and the other literals that the call fills in."""
    found = {}
    for path in SOURCES:
        text = path.read_text()
        for match in _CALL.finditer(text):
            first, *others = literals(text[match.end() : closing(text, match.end())])
            found[first] = [other for other in others if other]
    return found


def pattern(message: str) -> re.Pattern[str]:
    return re.compile(".+".join(re.escape(part) for part in _PLACEHOLDER.split(message)))


def rows(text: str, columns: int) -> list[list[str]]:
    """Return the cells of a page's tables of so many columns."""
    tables = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in tables if len(row) == columns and set(row[0]) != {"-"}]


def section(title: str) -> str:
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", TROUBLESHOOTING, re.M | re.S)
    assert found, title
    return found[1]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


register_table = load(DOCS / "ext/register_table.py")


def test_messages_are_found_in_the_sources() -> None:
    assert "not a capric card: subsystem id %04x:%04x" in messages()
    assert messages()["%s; %s%s"][0] == "the card does not answer"
    text = "".join(path.read_text() for path in SOURCES)
    assert len(messages()) == len(re.findall(r"\b(?:dev|pci|pr)_(?:err|warn|info)\w*\(|\bprintk\(", text))


@pytest.mark.parametrize("message", messages())
def test_message_of_the_sources_is_explained(message: str) -> None:
    assert any(pattern(message).fullmatch(span) for span in SPANS)
    for part in messages()[message]:
        assert any(part in span for span in SPANS), part


@pytest.mark.parametrize("title", ["While a card is bound", "While it works"])
def test_explained_line_is_in_the_sources(title: str) -> None:
    known = [pattern(message) for message in messages()]
    lines = [row[0].strip("`") for row in rows(section(title), 3)[1:]]
    assert len(lines) > 5
    for line in lines:
        assert line.startswith("WARNING: ") or any(one.fullmatch(line) for one in known), line


def test_warnings_of_the_sources_are_explained() -> None:
    functions = []
    for path in SOURCES:
        text = path.read_text()
        for match in re.finditer(r"\b(?:WARN|BUG)(?:_ON)?(?:_ONCE)?\(", text):
            functions.append(re.findall(r"^\w[^;{}()\n]*?(\w+)\(", text[: match.start()], re.M)[-1])
    assert functions
    for function in functions:
        assert f"WARNING: ... {function}" in SPANS


@pytest.mark.parametrize("function", ["xdma_error_name", "xdma_error_place"])
def test_words_for_xdma_errors_are_explained(function: str) -> None:
    text = (PROJECT / "src/cards/xdma_error.c").read_text()
    body = re.search(rf"^const char \*{function}\(.*?^}}", text, re.M | re.S)
    assert body
    for word in literals(body[0].replace('",', '" ,')):
        assert word in SPANS


def test_errnos_are_explained() -> None:
    used = {name for path in SOURCES for name in re.findall(r"-(E[A-Z]{2,})\b", path.read_text())}
    uapi = set(re.findall(r"^\| (E[A-Z]+) \|", (DOCS / "calls.md").read_text(), re.M))
    explained = {name for row in rows(section("By errno"), 3) for name in re.findall(r"E[A-Z]{2,}", row[0])}
    assert len(uapi) > 12
    assert (used - _INTERNAL) | uapi | _PROMISED <= explained


def test_every_page_is_in_a_toctree() -> None:
    blocks = re.findall(r"^```\{toctree\}\n(.*?)^```", (DOCS / "index.md").read_text(), re.M | re.S)
    listed = [line for block in blocks for line in block.splitlines() if line and not line.startswith(":")]
    pages = [str(path.relative_to(DOCS))[: -len(".md")] for path in DOCS.rglob("*.md")]
    assert sorted([*listed, "index"]) == sorted(pages)


def test_register_table_has_each_field() -> None:
    sample = Register("SAMPLE", 0x10, (
        Field(31, 8, "address", Access.RW, None, "where a | b"),
        bit(0, "done", Access.W1C, "has ended", inferred=True),
    ))
    again = Register("SAMPLE_RC", 0x14, (
        Field(31, 8, "address", Access.RC, None, "where a | b"),
        bit(0, "done", Access.RC, "has ended"),
    ))
    assert register_table.table((sample, again))[2:] == [
        "| 0x10 | `SAMPLE` | 31:8 | `address` | RW | undefined | where a \\| b |",
        "|  |  | 0 | `done` | R/W1C | 0 | has ended (inferred) |",
        "| 0x14 | `SAMPLE_RC` |  |  | RC |  | as `SAMPLE` |",
    ]


@pytest.mark.parametrize("card", cards.names())
def test_card_page_has_all_registers_of_the_model(card: str) -> None:
    """Sphinx makes the tables from the declarations; here: that none is left out, and that the places exist."""
    places = re.findall(r"^```\{registers\} (\S+)$", (DOCS / f"cards/{card}.md").read_text(), re.M)
    shown = [register_table.declared(place) for place in places]
    if card == "xdma":
        assert set(shown) == {*xdma.BY_TARGET.values(), xdma.USER}
    else:
        names = sorted(cards.model(card).register_names.values())
        assert sorted(register.name for registers in shown for register in registers) == names


def test_edu_page_has_the_registers_of_the_driver() -> None:
    text = (PROJECT / "src/cards/edu_regs.h").read_text()
    values = dict(re.findall(r"^#define (EDU_\w+)\s+(0x\w+|BIT\(\d+\)|GENMASK\(\d+, \d+\))", text, re.M))
    for name in ("EDU_VENDOR_ID", "EDU_DEVICE_ID", "EDU_BAR_LENGTH", "EDU_IDENT_MAGIC_VALUE"):
        del values[name]
    shown = {"EDU_MEMORY": "0x40000"}
    for offset, register, bits, field, _ in rows((DOCS / "cards/edu.md").read_text(), 5)[1:]:
        if register:
            shown[register.strip("`")] = offset
        if field:
            shown[field.strip("`")] = f"GENMASK({bits.replace(':', ', ')})" if ":" in bits else f"BIT({bits})"
    assert shown == values
    assert "`EDU_MEMORY`" in (DOCS / "cards/edu.md").read_text()


def test_uapi_constants_have_comments_that_kernel_doc_takes() -> None:
    """It passes over comments of one line without a word."""
    text = (PROJECT / "src/include/uapi/pciedma.h").read_text()
    constants = re.findall(r"^#define (PCIEDMA_\w+)", text, re.M)
    constants.remove("PCIEDMA_IOC_MAGIC")
    assert len(constants) > 10
    for name in constants:
        assert f"\n/**\n * {name} - " in text, name


@pytest.mark.parametrize("command", [name for name in command_line.COMMANDS if name != "tools"])
def test_lab_command_has_all_its_options_in_the_manual(command: str) -> None:
    argv = [sys.executable, "-m", "pciedma_lab", command, "--help"]
    result = subprocess.run(argv, text=True, check=True, capture_output=True, cwd=PROJECT / "python")
    sections = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", MANUAL_OF_THE_LAB, re.M))
    assert re.search(rf"^`{command}`", sections["Commands"], re.M)
    others = re.search(rf"^`{command}` .*\n", sections["Options of the others"], re.M)
    part = sections.get(f"Options of {command}") or (others[0] if others else "")
    documented = re.findall(r"`(--[a-z-]+)`", part)
    assert sorted(set(documented)) == sorted(set(re.findall(r"--[a-z-]+", result.stdout)) - {"--help"})


def test_commands_for_a_clone_alone_are_named_where_it_is_said() -> None:
    for text in (
        re.findall(r"^(`tools`.*)work on the project's own files", MANUAL_OF_THE_LAB, re.M)[0],
        re.findall(r"work on the project itself \((.*)\)", (DOCS / "start-lab.md").read_text())[0],
    ):
        assert tuple(re.findall(r"`(\w+)`", text)) == command_line.IN_A_CLONE


def test_module_parameters_are_in_the_manual() -> None:
    text = "".join(path.read_text() for path in (PROJECT / "src").rglob("*.[ch]"))
    parameters = re.findall(r"module_param\((\w+)", text)
    assert "ids" in parameters
    manual = (DOCS / "man/pciedma.4.md").read_text()
    for name in parameters:
        assert f"\n`{name}=" in manual


def test_alias_for_a_new_id_matches_such_a_device() -> None:
    page = (DOCS / "ids.md").read_text()
    vendor, device = re.findall(r"^ +options pciedma_xdma ids=(\w+):(\w+)$", page, re.M)[0]
    alias = re.findall(r"^ +alias (\S+) pciedma_xdma$", page, re.M)[0]
    modalias = f"pci:v{int(vendor, 16):08X}d{int(device, 16):08X}sv000010EEsd00000007bc05sc80i00"
    assert fnmatch.fnmatchcase(modalias, alias)


def test_errors_of_the_binding_are_exported_and_documented() -> None:
    page = (DOCS / "python.md").read_text()
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, OSError) and kind.__module__ == errors.__name__:
            assert name in pciedma.__all__
            assert f"autoexception:: pciedma.{name}\n" in page


@pytest.mark.parametrize("name", [name for name in pciedma.__all__ if not name.endswith("Error")])
def test_public_name_of_the_binding_is_documented(name: str) -> None:
    assert re.search(rf"^\.\. auto\w+:: pciedma\.{name}$", (DOCS / "python.md").read_text(), re.M)


def picture_of_the_driver() -> dict[str, set[str]]:
    """Return the layers of the page's picture, the highest first, and the files that it names in each."""
    picture = (DOCS / "driver.md").read_text().split("## Layers")[1].split("Where does something new belong?")[0]
    found: dict[str, set[str]] = {}
    for line in re.findall(r"^    (\S.*)$", picture, re.M):
        name, files = re.match(r"(\w+|\|) *((?:[\w.]+,? )*)", line + " ").groups()  # type: ignore[union-attr]
        layer = list(found)[-1] if name == "|" else name
        if not re.match(r"\| +(?:implements|calls) ", line):
            found.setdefault(layer, set()).update(word.removesuffix(".c") for word in re.findall(r"[\w.]+", files))
    return found


def test_page_about_the_driver_has_the_layers_of_the_table() -> None:
    table = layers.read(PROJECT)
    assert [table.name(level) for level in reversed(range(len(table.folders)))] == list(picture_of_the_driver())


def test_page_about_the_driver_names_the_files_of_each_layer() -> None:
    table = layers.read(PROJECT)
    for layer, named in picture_of_the_driver().items():
        folder = next(name for level, name in enumerate(table.folders) if table.name(level) == layer)
        files = {path.stem for path in (PROJECT / layers.CORE / folder).glob("*.c")}
        assert named
        assert {name for name in named if not any(file.startswith(name) for file in files)} == set(), layer


def test_page_about_the_driver_names_what_there_is() -> None:
    page = (DOCS / "driver.md").read_text()
    source = "".join(path.read_text() for path in (PROJECT / "src").rglob("*.[ch]"))
    names = re.findall(r"`(\w+)\(\)`", page) + re.findall(r"struct (pciedma_\w+)", page)
    assert len(names) > 20
    assert [name for name in names if not re.search(rf"\b{name}\b", source)] == []
    there = {path.name for path in (PROJECT / "src").rglob("*.[ch]")}
    assert set(re.findall(r"\b\w+\.[ch]\b", page)) <= there


CONTRACT = (DOCS / "contract.md").read_text()
HEADER = (PROJECT / "src/include/pciedma_card.h").read_text()


def names_in(text: str) -> list[str]:
    return re.findall(r"`(\w+)`", text)


def operations_of_back_ends() -> list[str]:
    """Return what the header has in struct pciedma_card_ops."""
    body = re.search(r"^struct pciedma_card_ops \{\n(.*?)^\};", HEADER, re.M | re.S)
    assert body
    return re.findall(r"\(\*(\w+)\)\(", body[1])


def exports() -> dict[str, str]:
    """Return what core exports, each with the context that its kernel-doc names."""
    found = {}
    for path in (PROJECT / "src/core").rglob("*.c"):
        text = path.read_text()
        for name in re.findall(r"^EXPORT_SYMBOL_GPL\((\w+)\);", text, re.M):
            doc = re.findall(rf"^ \* {name}\(\) - .*?^ \*/", text, re.M | re.S)[0]
            found[name] = "".join(re.findall(r"^ \* Context: ([^*]*)\.\n", doc, re.M))
    return found


def test_table_of_who_calls_what_has_each_operation_of_the_header() -> None:
    head, *table = rows(CONTRACT, 5)
    assert head == ["operation", "called by core when", "context", "lock held", "engine's states"]
    assert [name for row in table for name in names_in(row[0])] == operations_of_back_ends()
    for row in table:
        assert all(row), row


def test_table_of_who_calls_what_has_the_locks_contexts_and_states_of_the_sources() -> None:
    _, *table = rows(CONTRACT, 5)
    said = re.findall(r"^ \* ([\w, ]+) and (\w+) run under the engine's lock: all of these but (\w+)$", HEADER, re.M)
    ((locked, last, in_process),) = said
    under_lock = {name for row in table if row[3] == "the engine's" for name in names_in(row[0])}
    assert under_lock == {*locked.split(", "), last}
    anywhere = {name for row in table if "hard interrupts too" in row[2] for name in names_in(row[0])}
    assert anywhere == (under_lock - {in_process}) | {"events"}
    states = set(re.findall(r"^\tPCIEDMA_ENGINE_(\w+),$", (PROJECT / "src/core/engine/engine.h").read_text(), re.M))
    assert len(states) == 4
    assert {word for row in table for word in re.findall(r"\b[A-Z]{3,}\b", row[4])} == states
    introduction = CONTRACT.partition("## Who calls what when\n")[2].partition("|")[0]
    assert states <= set(re.findall(r"\b[A-Z]{3,}\b", introduction))


def test_table_of_functions_has_each_that_core_exports_and_where_it_may_be_called() -> None:
    head, *table = (row for row in rows(CONTRACT, 3) if "pciedma_" in row[0] or row[0] == "function of core")
    assert head == ["function of core", "may be called from", "what it asks for"]
    where = {name: row[1] for row in table for name in names_in(row[0])}
    contexts = exports()
    assert where.keys() == contexts.keys()
    for name, context in contexts.items():
        if context.startswith("inside "):
            assert names_in(where[name]) == re.findall(r"(?:inside|or) (\w+)", context), name
        assert ("from init on" in context) <= (where[name] == "all but `identify`"), name
        assert set(names_in(where[name])) <= {*operations_of_back_ends(), "module_pciedma_driver"}


def test_table_of_limits_has_those_of_the_sources() -> None:
    text = "".join(path.read_text() for path in (PROJECT / "src").rglob("*.h"))
    numbers = dict(re.findall(r"^#define PCIEDMA_MAX_(\w+)\s+(\d+)$", text, re.M))
    assert numbers.pop("HANDLES") == "4096"  # of an open file: it is no back end's affair
    assert numbers.keys() == {"CHANNELS", "BUFFERS", "EVENTS", "WINDOWS"}
    assert "#define PCIEDMA_MAX_ENGINES\t(PCIEDMA_MAX_CHANNELS * PCIEDMA_DIRECTIONS)\n" in text
    assert "#define PCIEDMA_MAX_VECTORS\t(PCIEDMA_MAX_ENGINES + 1)\n" in text
    numbers["VECTORS"] = str(2 * int(numbers["CHANNELS"]) + 1)
    table = CONTRACT.partition("## How many\n")[2].partition("\n## ")[0]
    found = {row[0].strip("`").split("`")[0].split()[0]: row[1] for row in rows(table, 3)[1:]}
    assert found == {
        "channels": numbers["CHANNELS"], "buffers": numbers["BUFFERS"], "vectors": numbers["VECTORS"],
        "event_lines": numbers["EVENTS"], "windows": numbers["WINDOWS"],
    }


def test_page_about_a_new_card_names_what_the_base_class_has() -> None:
    page = (DOCS / "add-a-card.md").read_text()
    tables = page.partition("| the model has |")[2].partition("\nThe model alone")[0]
    named = {name for row in rows(tables, 2) for name in re.findall(r"`(\w+)(?:\(\))?`", row[0])}
    card = load(PROJECT / "examples/card/loop.py").Model()
    assert {name for name in named if not hasattr(card, name)} == set()
    assert CardModel.__abstractmethods__ < named
    used = "".join(path.read_text() for path in (PROJECT / "python/pciedma_lab").glob("cards/*.py"))
    helpers = {name for name in vars(CardModel) if name[0] != "_" and f"self.{name}(" in used}
    assert len(helpers) > 5
    assert helpers <= named
