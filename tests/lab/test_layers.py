"""The layers of core: small trees with something wrong in them, and the lines that say so."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pciedma_lab import chroot, layers, lint_command, modules
from pciedma_lab.cache import LabError

#: A right tree, with what a file may do: include what is beside it, below it or public; call what is beside and below
#: it; and what is above through an operation. A header beside it comes before the assembly's of the same name.
RIGHT = {
    "core/LAYERS": "engine The hardware.\nqueue Transfers in order.\nnodes What programs see.\n. The assembly.\n",
    "core/engine/engine.h": "#include <stddef.h>\n#include <public.h>\nint start(int (*)(void));\nint halt(void);\n",
    "core/engine/engine.c": '#include "engine.h"\n#include "names.h"\nint start(int (*op)(void)) { return op(); }\n',
    "core/engine/irq.c": '#include "engine/engine.h"\nint halt(void) { return start(halt); }\n',
    "core/engine/names.h": "extern int names;\n",
    "core/queue/queue.c": '#include "../engine/engine.h"\nint queue(void) { return halt(); }\n',
    "core/nodes/node.c": "#include <engine/engine.h>\nint limit;\nint node(void) { return limit + halt(); }\n",
    "core/names.h": "",
    "core/main.c": '#include "names.h"\nint node(void);\nint main(void) { return node(); }\n',
    "include/public.h": "",
    "cards/card.c": "int next(void) { return 0; }\n",
}


def write(root: Path, files: dict[str, str]) -> layers.Layers:
    """Write files into a tree's source, and read its table."""
    for name, text in files.items():
        path = root / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return layers.read(root)


@pytest.fixture
def right(tmp_path: Path) -> Path:
    """A right tree."""
    write(tmp_path, RIGHT)
    return tmp_path


def faults(root: Path, name: str, text: str) -> list[str]:
    """Return the faults of a tree with one file more, or another."""
    return layers.report(write(root, {name: text})).faults


def compile_core(table: layers.Layers, folder: Path) -> None:
    """Compile a tree's core; the objects go to ``src`` in a folder."""
    options = [f"-I{table.root}/src/{name}" for name in ("core", "include")]
    for name in layers.objects(table):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        source = (table.root / name).with_suffix(".c")
        subprocess.run(["cc", "-c", *options, str(source), "-o", str(folder / name)], check=True)


def calls(root: Path, name: str, text: str) -> list[str]:
    """Return the faults of the objects of a tree with one file more, or another."""
    table = write(root, {name: text})
    compile_core(table, root)
    command = [*layers.NM, *layers.objects(table)]
    return layers.calls(table, subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout)


def function(lines: int, head: str = "int get(void)") -> str:
    """Return a function that has so many lines between its braces."""
    return f"{head}\n{{\n" + "\tx++;\n" * lines + "}\n"


def test_right_tree_has_no_fault(right: Path) -> None:
    assert faults(right, "core/other.c", "") == []
    assert calls(right, "core/other.c", "") == []


@pytest.mark.parametrize("written", ['"queue/queue.h"', '"../queue/queue.h"', "<queue/queue.h>"])
def test_include_of_what_is_above_is_a_fault_however_it_is_written(right: Path, written: str) -> None:
    write(right, {"core/queue/queue.h": ""})
    assert faults(right, "core/engine/a.h", f"\n#include {written}\n") == [
        f"src/core/engine/a.h:2: includes {written}, of the higher layer queue"
    ]


def test_include_of_the_assembly_is_a_fault_with_its_name(right: Path) -> None:
    write(right, {"core/main.h": ""})
    assert faults(right, "core/nodes/a.c", '  # include "main.h"\n') == [
        'src/core/nodes/a.c:1: includes "main.h", of the higher layer assembly'
    ]


@pytest.mark.parametrize("written", ['"../../include/public.h"', '"../../cards/card.c"', '"none.h"', "A_MACRO"])
def test_include_of_no_layer_is_a_fault(right: Path, written: str) -> None:
    assert faults(right, "core/queue/a.c", f"#include {written}\n") == [
        f"src/core/queue/a.c:1: includes {written}, which is in no layer"
    ]


@pytest.mark.parametrize("name", ["core/other/a.c", "core/engine/deep/a.h"])
def test_file_in_a_folder_that_the_table_does_not_name_is_a_fault(right: Path, name: str) -> None:
    assert faults(right, name, "") == [f"src/{name}: is in no layer: src/core/LAYERS does not name its folder"]


def test_include_of_a_file_in_such_a_folder_is_a_fault_too(right: Path) -> None:
    write(right, {"core/other/a.h": ""})
    assert faults(right, "core/main.c", '#include "other/a.h"\n') == [
        'src/core/main.c:1: includes "other/a.h", which is in no layer',
        "src/core/other/a.h: is in no layer: src/core/LAYERS does not name its folder",
    ]


def test_call_of_what_is_above_is_a_fault_of_the_object(right: Path) -> None:
    assert calls(right, "core/engine/irq.c", "int node(void);\nint halt(void) { return node(); }\n") == [
        "src/core/engine/irq.o (layer engine) calls node(), which src/core/nodes/node.o (layer nodes) defines"
    ]


def test_address_of_a_function_above_is_a_fault(right: Path) -> None:
    assert calls(right, "core/nodes/node.c", "int main(void);\nint (*entry)(void) = main;\nint node(void);\n") == [
        "src/core/nodes/node.o (layer nodes) calls main(), which src/core/main.o (layer assembly) defines"
    ]


def test_data_of_what_is_above_is_a_fault(right: Path) -> None:
    assert calls(right, "core/queue/queue.c", "extern int limit;\nint queue(void) { return limit; }\n") == [
        "src/core/queue/queue.o (layer queue) uses limit, which src/core/nodes/node.o (layer nodes) defines"
    ]


def test_weak_call_of_what_is_above_is_a_fault_and_so_is_a_call_of_what_is_weak_there(right: Path) -> None:
    write(right, {"core/nodes/node.c": "__attribute__((weak)) int node(void) { return 0; }\n"})
    text = "__attribute__((weak)) int node(void);\nint queue(void) { return node ? node() : 0; }\n"
    assert calls(right, "core/queue/queue.c", text) == [
        "src/core/queue/queue.o (layer queue) calls node(), which src/core/nodes/node.o (layer nodes) defines"
    ]


def test_static_function_of_the_same_name_above_is_no_fault(right: Path) -> None:
    write(right, {"core/nodes/node.c": "static int get(void) { return 0; }\nint node(void) { return get(); }\n"})
    assert calls(right, "core/engine/irq.c", "int get(void);\nint halt(void) { return get(); }\n") == []


@pytest.mark.parametrize("folder", ["core/engine", "core", "cards"])
@pytest.mark.parametrize(("suffix", "kind", "bound"), [("h", "header", 250), ("c", "file", 450)])
def test_file_may_have_as_many_lines_as_its_bound(
    right: Path, folder: str, suffix: str, kind: str, bound: int
) -> None:
    name = f"{folder}/long.{suffix}"
    assert faults(right, name, "int x;\n" * bound) == []
    assert faults(right, name, "int x;\n" * (bound + 1)) == [
        f"src/{name}: a {kind} of {bound + 1} lines, above {bound}"
    ]


@pytest.mark.parametrize("name", ["core/engine/long.h", "cards/card.c"])
def test_function_may_have_60_lines_between_its_braces(right: Path, name: str) -> None:
    assert faults(right, name, "struct a {\n" + "\tint x;\n" * 70 + "};\n\n" + function(60)) == []
    assert faults(right, name, f"\n{function(60)}\n{function(61, 'int put(void)')}") == [
        f"src/{name}:66: put(): a function of 61 lines, above 60"
    ]


@pytest.mark.parametrize("head", [
    "static __printf(1, 2) int get(int a,\n\t\t\t      int b)",
    "static int get(int a)\n\t__must_hold(&lock)",
])  # fmt: skip
def test_function_is_named_by_a_head_of_several_lines(right: Path, head: str) -> None:
    assert faults(right, "core/main.c", f"int x;\n\n{function(61, head)}") == [
        "src/core/main.c:3: get(): a function of 61 lines, above 60"
    ]


def test_report_has_the_longest_of_each_kind(right: Path) -> None:
    write(right, {"core/engine/long.h": "\n" * 40, "core/queue/long.c": "\n" * 300, "core/short.c": function(7)})
    assert layers.report(write(right, {"cards/card.c": function(8)})).summary == (
        "longest: src/core/engine/long.h: a header of 40 lines; src/core/queue/long.c: a file of 300 lines; "
        "src/cards/card.c:1: get(): a function of 8 lines"
    )


@pytest.mark.parametrize("line", ["engine Another.", "requests", "requests  ", ""])
def test_table_with_a_line_that_says_too_little_or_again_is_refused(right: Path, line: str) -> None:
    with pytest.raises(LabError) as error:
        write(right, {"core/LAYERS": f"engine The hardware.\n{line}\n. The assembly.\n"})
    assert str(error.value) == (
        "src/core/LAYERS:2: a line is a folder that no other line has, and what the layer is"
    )


@pytest.fixture
def lint(right: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lint:
    """The command ``lint`` for the right tree, of whose checkers only the layers' is left."""
    return Lint(right, monkeypatch, capsys)


class Lint:
    """What the command ``lint`` says of a tree."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        for name in ("_tool", "_checkpatch", "_kernel_doc", "_modules"):
            monkeypatch.setattr(lint_command, name, lambda *arguments: True)
        monkeypatch.setattr(chroot, "PROJECT", root)
        monkeypatch.setattr(modules, "BUILD", root / "build")
        monkeypatch.setattr(modules, "build", lambda name: compile_core(layers.read(root), modules.BUILD / name))

    def __call__(self) -> tuple[int, str, str]:
        """Run it; returns its status, its last line, and its errors."""
        status = lint_command.main([])
        output = self.capsys.readouterr()
        return status, output.out.splitlines()[-1], output.err


def test_lint_checks_layers_where_there_is_a_table(right: Path, lint: Lint) -> None:
    assert lint() == (0, "layers: clean", "")
    (right / "src/core/LAYERS").unlink()
    assert lint() == (0, "sparse and W=1: clean", "")


def test_lint_fails_by_what_includes_and_objects_have_from_above(right: Path, lint: Lint) -> None:
    write(right, {"core/main.h": "int node(void);\n"})
    write(right, {"core/engine/irq.c": '#include "main.h"\nint halt(void) { return node(); }\n'})
    assert lint() == (
        1,
        "layers: NOT CLEAN",
        'src/core/engine/irq.c:1: includes "main.h", of the higher layer assembly\n'
        "src/core/engine/irq.o (layer engine) calls node(), which src/core/nodes/node.o (layer nodes) defines\n",
    )


def test_lint_fails_if_an_object_is_missing(right: Path, lint: Lint, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that nobody takes what was not looked at for good: a file that Kbuild forgot, objects that lie elsewhere."""

    def build(name: str) -> None:
        compile_core(layers.read(right), modules.BUILD / name)
        (modules.BUILD / name / "src/core/main.o").unlink()

    monkeypatch.setattr(modules, "build", build)
    status, verdict, errors = lint()
    assert (status, verdict) == (1, "layers: NOT CLEAN")
    assert "'src/core/main.o': No such file" in errors
