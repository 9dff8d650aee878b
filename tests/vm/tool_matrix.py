"""Usual tools on a channel's node, unmodified, and what is to come of it: the one table of tests and documentation.

``python3 -m tests.vm.tool_matrix`` prints it as it stands in docs/tools.md.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Debian's packages that the tools come from, beside those that each guest has.
PACKAGES = ("fio", "gddrescue", "python3-numpy", "socat", "stress-ng")
#: Of the card's memory, where its size is said, and of the file that is moved.
SIZE = 1 << 20

#: The nodes: memory of known size, memory of unknown size, messages.
SIZED, UNKNOWN, MESSAGES = "memory, size known", "memory, size unknown", "messages"
CARDS = (SIZED, MESSAGES, UNKNOWN)


@dataclass(frozen=True)
class Row:
    """A way to use a tool.

    ``command`` is for the shell: NODE is the channel, DATA a file of SIZE random bytes, OUT a file that is not there
    yet. If it ``moves`` "read", the card's memory is like DATA before, and OUT must be like its ``part`` afterwards; if
    "write", the memory must be like DATA afterwards. Else the command judges itself. If it ``fails``, the exit status
    must not be 0, and its words contain that.
    """

    tool: str
    way: str
    command: str
    moves: str = ""
    card: str = SIZED
    fails: str = ""
    part: tuple[int, int] = (0, SIZE)

    @property
    def result(self) -> str:
        """What is to come of it, in words."""
        return f"fails: {self.fails}" if self.fails else "works"

    @property
    def id(self) -> str:
        """The name of its test."""
        return f"{self.tool}: {self.way} ({self.card})"


def _python(script: str) -> str:
    """Return a command that runs a script with descriptors of NODE and of files, and numpy where it is wanted."""
    head = "import os; node, data, out = (os.environ[name] for name in ('NODE', 'DATA', 'OUT'))\n"
    head += "def get(name, flags=os.O_RDWR): return os.open(name, flags, 0o600)\nsize = os.path.getsize(data)\n"
    return f'python3 -c "{head}{script}"'


_FIO = f"fio --filename=$NODE --size={SIZE} --thread --output-format=terse"


def _fio(direct: int) -> Row:
    """Return a row for blocks that are written in random order, flushed, read and checked, by each engine in turn.

    In one process: fio takes longer to begin than to do it.
    """
    engines = {"psync": 1, "pvsync2": 1, "libaio": 8, "io_uring": 8}
    words = f"--direct={direct} --rw=randwrite --bsrange=4k-64k --fsync=8 --verify=crc32c --verify_fatal=1"
    jobs = " ".join(f"--name={name} --stonewall --ioengine={name} --iodepth={n}" for name, n in engines.items())
    way = f"{', '.join(engines)}; direct={direct}; random writes of 4 to 64 KiB; fsync; verify=crc32c"
    return Row("fio", way, f"{_FIO} {words} {jobs} > /dev/null")


_LOOP = "while size:\n moved = {}\n assert moved > 0\n size -= moved"
_PIPE = "a, b = os.pipe()\n" + _LOOP

_DD = (
    Row("dd", "of=NODE", "dd if=$DATA of=$NODE bs=64k", "write"),
    Row("dd", "of=NODE oflag=direct", "dd if=$DATA of=$NODE bs=64k oflag=direct", "write"),
    Row("dd", "of=NODE oflag=dsync", "dd if=$DATA of=$NODE bs=64k oflag=dsync", "write"),
    Row("dd", "of=NODE conv=fsync", "dd if=$DATA of=$NODE bs=64k conv=fsync", "write"),
    Row("dd", "of=NODE conv=fdatasync,notrunc seek=",
        "for n in 0 8; do dd if=$DATA of=$NODE bs=64k count=8 skip=$n seek=$n conv=fdatasync,notrunc; done", "write"),
    Row("dd", "if=NODE, to the end", "dd if=$NODE of=$OUT bs=300k", "read"),
    Row("dd", "if=NODE iflag=direct", "dd if=$NODE of=$OUT bs=64k iflag=direct", "read"),
    Row("dd", "if=NODE skip= count=", "dd if=$NODE of=$OUT bs=64k skip=3 count=2", "read", part=(3 << 16, 5 << 16)),
    Row("dd", "if=NODE iflag=fullblock,skip_bytes,count_bytes, odd numbers",
        "dd if=$NODE of=$OUT bs=64k skip=1001 count=77777 iflag=fullblock,skip_bytes,count_bytes", "read",
        part=(1001, 1001 + 77777)),
    Row("dd", "if=NODE count=", "dd if=$NODE of=$OUT bs=64k count=4", "read", UNKNOWN, part=(0, 4 << 16)),
    Row("dd", "of=NODE, then if=NODE count=1",
        "echo words | dd of=$NODE bs=2000; dd if=$NODE bs=6 count=1 | grep -x words", card=MESSAGES),
)
_COREUTILS = (
    Row("cp", "FILE NODE", "cp $DATA $NODE", "write"),
    Row("cp", "NODE FILE", "cp $NODE $OUT", "read"),
    Row("cp", "FILE NODE", "cp $DATA $NODE", card=MESSAGES, fails="Message too long"),
    Row("cat", "FILE > NODE", "cat $DATA > $NODE", "write"),
    Row("cat", "NODE > FILE", "cat $NODE > $OUT", "read"),
    Row("head", "-c N NODE", "echo words | dd of=$NODE bs=2000; head -c 6 $NODE | grep -x words", card=MESSAGES),
    Row("tee", "NODE < FILE", "tee $NODE < $DATA > /dev/null", "write"),
    Row("head", "-c N NODE", "head -c 100001 $NODE > $OUT", "read", part=(0, 100001)),
    Row("head", "-c N NODE", "head -c 100001 $NODE > $OUT", "read", UNKNOWN, part=(0, 100001)),
    Row("tail", "-c N NODE", "tail -c 1001 $NODE > $OUT", "read", part=(SIZE - 1001, SIZE)),
    Row("cmp", "NODE FILE", "dd if=$DATA of=$NODE bs=64k; cmp $NODE $DATA"),
)
_READS = "i, o = get(node), get(out, os.O_CREAT | os.O_WRONLY)\n"
_WRITES = "i, o = get(data, os.O_RDONLY), get(node)\n"
_RANGE = "os.copy_file_range(i, o, size)"
_CALLS = (
    Row("sendfile", "NODE to FILE", _python(_READS + _LOOP.format("os.sendfile(o, i, None, size)")), "read"),
    Row("sendfile", "FILE to NODE", _python(_WRITES + _LOOP.format("os.sendfile(o, i, None, size)")), "write"),
    Row("splice", "NODE to a pipe", _python(
        _READS + _PIPE.format("os.write(o, os.read(a, os.splice(i, b, 65536)))")), "read"),
    Row("splice", "a pipe to NODE", _python(
        _WRITES + _PIPE.format("os.splice(a, o, os.write(b, os.read(i, 65536)))")), "write"),
    Row("copy_file_range", "NODE to FILE", _python(_READS + _RANGE), fails="Invalid argument"),
    Row("copy_file_range", "FILE to NODE", _python(_WRITES + _RANGE), fails="Invalid argument"),
    Row("lseek", "SEEK_END", _python("assert os.lseek(get(node), 0, os.SEEK_END) == size")),
    Row("lseek", "SEEK_END", _python("os.lseek(get(node), 0, os.SEEK_END)"), card=UNKNOWN, fails="Invalid argument"),
    Row("fsync", "fsync, fdatasync", _python("os.fsync(get(node)); os.fdatasync(get(node))")),
    Row("fsync", "fsync, fdatasync", _python("os.fsync(get(node)); os.fdatasync(get(node))"), card=MESSAGES),
)
_PROGRAMS = (
    Row("ddrescue", "-d NODE FILE", "ddrescue -d $NODE $OUT", "read"),
    Row("ddrescue", "-D --force FILE NODE", "ddrescue -D --force $DATA $NODE", "write"),
    Row("ddrescue", "-d -s N NODE FILE", f"ddrescue -d -s {SIZE} $NODE $OUT", "read", UNKNOWN,
        fails="Input file is not seekable"),
    Row("socat", "OPEN:NODE", "socat -u -b 65536 OPEN:$NODE,rdonly CREATE:$OUT", "read"),
    Row("socat", "to OPEN:NODE", "socat -u -b 65536 OPEN:$DATA,rdonly OPEN:$NODE,wronly", "write"),
    Row("stress-ng", "--dev 1 --dev-file NODE",
        "stress-ng --quiet --temp-path /tmp --dev 1 --dev-file $NODE --timeout 3s"),
    Row("numpy", "fromfile, tofile", _python(
        "import numpy as np\na = np.fromfile(data, '<u4')\na.tofile(node)\n"
        "assert (np.fromfile(node, '<u4') == a).all()\n"
        "assert (np.fromfile(node, '<u4', count=100, offset=4000) == a[1000:1100]).all()")),
    Row("numpy", "fromfile with count=", _python(
        "import numpy as np\na = np.fromfile(data, '<u4')\na.tofile(node)\n"
        "assert (np.fromfile(node, '<u4', count=a.size) == a).all()"), card=UNKNOWN),
    Row("numpy", "fromfile with no count=", _python(
        "import numpy as np\nnp.fromfile(node, '<u4')"), card=UNKNOWN, fails="could not seek in file"),
    Row("numpy", "memmap", _python(
        "import numpy as np\nnp.memmap(node, 'u1', shape=(4096,))"), fails="No such device"),
)
_ENGINES = (
    *(_fio(direct) for direct in (1, 0)),
    Row("fio", "io_uring, hipri", f"{_FIO} --name=x --ioengine=io_uring --hipri --direct=1 --rw=read --bs=64k",
        fails="Operation not supported"),
    Row("fio", "mmap", f"{_FIO} --name=x --ioengine=mmap --rw=read --bs=64k", fails="No such device"),
)

#: By card: what each needs is set up once.
ROWS = sorted((*_ENGINES, *_DD, *_COREUTILS, *_CALLS, *_PROGRAMS), key=lambda row: CARDS.index(row.card))


def table() -> str:
    """Return the matrix as a table for the documentation, in the order of the tools."""
    lines = ["| tool | how | channel | result |", "|---|---|---|---|"]
    for row in (*_ENGINES, *_DD, *_COREUTILS, *_CALLS, *_PROGRAMS):
        lines.append(f"| {row.tool} | {row.way} | {row.card} | {row.result} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
