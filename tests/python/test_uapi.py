"""The ctypes mirror against the header, by the compiler."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pciedma import uapi

INCLUDE = Path(__file__).parents[2] / "src/include/uapi"
HEADER = INCLUDE / "pciedma.h"


def _text() -> str:
    return re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)


def structures() -> dict[str, list[str]]:
    """Return the header's structures, each with its fields in order."""
    found = {}
    for name, body in re.findall(r"struct (pciedma_\w+) \{(.*?)\};", _text(), re.DOTALL):
        found[name] = re.findall(r"(\w+)(?:\[\d+\])?;", body)
    return found


def constants() -> list[str]:
    """Return the names of the header's numbers: macros with a value and enumerators."""
    macros = re.findall(r"#define\s+(PCIEDMA_\w+)\s+\S", _text())
    return macros + re.findall(r"^\s+(PCIEDMA_\w+)\s*=", _text(), re.MULTILINE)


def _compile(source: str, folder: Path, compiler: str = "cc", *options: str) -> Path:
    path = shutil.which(compiler)
    assert path, f"there is no {compiler} here"
    suffix = "cpp" if "++" in compiler else "c"
    (folder / f"program.{suffix}").write_text(source)
    program = folder / "program"
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}", *options]
    subprocess.run([path, *flags, str(folder / f"program.{suffix}"), "-o", str(program)], check=True)
    return program


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the compiler says: sizes, offsets and sizes of fields, values of constants."""
    lines = []
    for name, fields in structures().items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct {name}));')
        for field in fields:
            part = f"((struct {name} *)0)->{field}"
            lines.append(f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));')
            lines.append(f'printf("{name}.{field}.size %zu\\n", sizeof({part}));')
    lines += [f'printf("{name} %lld\\n", (long long){name});' for name in constants()]
    source = "#include <stddef.h>\n#include <stdio.h>\n#include <sys/ioctl.h>\n#include <pciedma.h>\n"
    source += "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
    program = _compile(source, tmp_path_factory.mktemp("layout"))
    output = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


def test_header_has_structures_and_constants() -> None:
    assert len(structures()) >= 5
    assert len(constants()) >= 14


@pytest.mark.parametrize("name", structures())
def test_structure_mirrors_the_header(name: str, layout: dict[str, int]) -> None:
    mirror = getattr(uapi, name)
    assert [field[0] for field in mirror._fields_] == structures()[name]
    assert ctypes.sizeof(mirror) == layout[name]
    for field in structures()[name]:
        assert getattr(mirror, field).offset == layout[f"{name}.{field}"], field
        assert getattr(mirror, field).size == layout[f"{name}.{field}.size"], field


@pytest.mark.parametrize("name", constants())
def test_constant_mirrors_the_header(name: str, layout: dict[str, int]) -> None:
    assert getattr(uapi, name) == layout[name]


def _wide_fields(structure: type[ctypes.Structure], base: int = 0) -> list[int]:
    offsets = []
    for field in structure._fields_:
        name, kind = field[0], field[1]
        offset = base + getattr(structure, name).offset
        if issubclass(kind, ctypes.Structure):
            offsets += _wide_fields(kind, offset)
        elif kind in (ctypes.c_uint64, ctypes.c_int64):
            offsets.append(offset)
    return offsets


@pytest.mark.parametrize("name", structures())
def test_structure_is_the_same_for_32_and_64_bit(name: str) -> None:
    mirror = getattr(uapi, name)
    assert all(offset % 8 == 0 for offset in _wide_fields(mirror))
    assert not _wide_fields(mirror) or ctypes.sizeof(mirror) % 8 == 0
    assert sum(getattr(mirror, field[0]).size for field in mirror._fields_) == ctypes.sizeof(mirror), "there is padding"


@pytest.mark.parametrize(("compiler", "standard"), [("cc", "c99"), ("cc", "c11"), ("c++", "c++11")])
def test_header_compiles_alone_without_a_warning(compiler: str, standard: str, tmp_path: Path) -> None:
    source = "#include <pciedma.h>\nint main(void) { return 0; }\n"
    _compile(source, tmp_path, compiler, f"-std={standard}", "-pedantic")
