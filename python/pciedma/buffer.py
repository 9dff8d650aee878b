"""Memory that user space and the card share: new buffers, and the program's own memory that is registered."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self, SupportsIndex, overload

from . import uapi
from .channel_node import ChannelNode, bytes_of
from .errors import translated
from .node import as_int

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

    from .channel import Channel

_C2H, _H2C = uapi.PCIEDMA_BUFFER_C2H, uapi.PCIEDMA_BUFFER_H2C

_REFUSED = {
    errno.ENOMEM: "no memory for it, or more than RLIMIT_MEMLOCK (ulimit -l) allows: the kernel's log says how much",
    errno.EMFILE: "an open channel has 4,096 buffers, registrations and dma-bufs at most",
    errno.EOPNOTSUPP: "the card cannot reach the memory, or that cannot be held for long, as that of files on disk and "
    "of devices cannot: the kernel's log says more; read(), readinto() and write() work with it",
}


class _Export(ctypes.Structure):
    """``Py_buffer``."""

    _fields_ = [
        ("buf", ctypes.c_void_p), ("obj", ctypes.c_void_p), ("len", ctypes.c_ssize_t), ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int), ("ndim", ctypes.c_int), ("format", ctypes.c_void_p), ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p), ("suboffsets", ctypes.c_void_p), ("internal", ctypes.c_void_p),
    ]


def address_of(view: BytesLike) -> int:
    """Return where contiguous memory lies, also if it is read-only."""
    export = _Export()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(export), 0)
    address = export.buf or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(export))
    return address


def create(
    channel: ChannelNode, flags: int, size: int = 0, *, address: int | None = None, fd: int | None = None
) -> uapi.pciedma_buffer_create:
    """Let the card know memory: that at an address, that of a dma-buf, or else new."""
    asked = uapi.pciedma_buffer_create(flags=flags, type=uapi.PCIEDMA_BUFFER_NEW, size=size)
    if address is not None:
        asked.type, asked.address = uapi.PCIEDMA_BUFFER_USER, address
    elif fd is not None:
        asked.type, asked.fd = uapi.PCIEDMA_BUFFER_DMABUF, fd
    try:
        return channel._ioctl(uapi.PCIEDMA_IOC_BUFFER_CREATE, asked)
    except OSError as error:
        code = error.errno or 0
        text = "the descriptor is no dma-buf's" if code == errno.EINVAL and fd is not None else _REFUSED.get(code)
        if text:
            raise OSError(code, text, channel.path) from None
        raise


def export(channel: ChannelNode, number: int) -> int:
    """Return a descriptor of new memory as a dma-buf."""
    exported: int = channel._ioctl(uapi.PCIEDMA_IOC_BUFFER_EXPORT, uapi.pciedma_buffer_export(id=number)).fd
    return exported


#: How to make an mmap object whose place new memory of the kernel's is to take.
RESERVED = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)}

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = getattr(_libc, "mmap64", _libc.mmap)  # offsets of mmap() have 32 bits with some C libraries on some processors
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
_mmap.restype = ctypes.c_void_p
_MAP_FIXED = 0x10


def show(channel: ChannelNode, made: uapi.pciedma_buffer_create, address: int) -> None:
    """Map new memory over what is reserved there. No descriptor is kept, as mmap's own objects do.

    A file that is open for one way only cannot be mapped to be read and written: then the memory's dma-buf is.
    """
    if channel.info.c2h is not None and channel.info.h2c is not None:
        _map_over(channel, address, made.size, channel.fileno(), made.mmap_offset)
        return
    exported = export(channel, made.id)
    try:
        _map_over(channel, address, made.size, exported, 0)
    finally:
        os.close(exported)


def _map_over(channel: ChannelNode, address: int, size: int, fd: int, offset: int) -> None:
    how = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED | _MAP_FIXED
    if _mmap(address, size, *how, fd, offset) != address:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), channel.path)


def destroy(channel: ChannelNode, number: int) -> None:
    """Let a buffer have no id any more, unless all of the open file have none."""
    if not channel.closed:
        with suppress(OSError):
            channel._ioctl(uapi.PCIEDMA_IOC_BUFFER_DESTROY, uapi.pciedma_buffer_destroy(id=number))


def directions(channel: ChannelNode, c2h: bool | None, h2c: bool | None) -> int:
    """Return the flags of a buffer; where nothing is said, the directions that the channel has."""
    flags = 0
    for name, wanted, flag in (("c2h", c2h, _C2H), ("h2c", h2c, _H2C)):
        has = getattr(channel.info, name) is not None
        if wanted and not has:
            raise ValueError(f"{channel.path} has no direction {name}")
        flags |= flag if has and wanted in (None, True) else 0
    if not flags:
        raise ValueError("the memory is for no direction: c2h, h2c or both")
    return flags


class Shared:
    """Memory that a channel's card knows: a Buffer, a Registration or a DmaBuf.

    It is for the process that made it; in a child after fork(), close() ends only the child's part. It is neither
    copied nor pickled (TypeError).
    """

    if not TYPE_CHECKING:  # those who derive from it have them: mmap has a layout of its own
        __slots__ = ()

    _channel: Channel
    _id: int
    _flags: int
    _pid: int
    _address: int
    _size: int

    def _share(self, channel: Channel, number: int, flags: int, address: int, size: int) -> None:
        self._channel, self._id, self._flags, self._pid = channel, number, flags, os.getpid()
        self._address, self._size = address, size
        channel._add(self)

    @property
    def channel(self) -> Channel:
        """The channel whose card knows the memory."""
        return self._channel

    @property
    def id(self) -> int:
        """The kernel's number of it, for this open file; 0 when closed."""
        return self._id

    @property
    def c2h(self) -> bool:
        """Whether data may go from the card to it."""
        return bool(self._flags & _C2H)

    @property
    def h2c(self) -> bool:
        """Whether data may go from it to the card."""
        return bool(self._flags & _H2C)

    @property
    def closed(self) -> bool:
        """Whether the card has forgotten it: by close(), or as the channel was closed."""
        return self._id == 0

    def __enter__(self) -> Self:
        """Return the memory itself."""
        return self

    def __del__(self) -> None:
        """Warn of memory that nobody closed, and let the card forget it."""
        if getattr(self, "_id", 0):
            if self._pid == os.getpid() and not self._channel.closed:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._forget()

    def __repr__(self) -> str:
        """Say what it is, of which channel, and whether it is open."""
        if not hasattr(self, "_size"):
            return f"<{type(self).__name__} closed>"
        what = f"{type(self).__name__} {self._id}" if self._id else type(self).__name__
        return f"<{what} of {self._channel.path} {self._size} bytes{'' if self._id else ' closed'}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be copied, pickled, or handed to a process that is not forked."""
        raise TypeError(
            f"cannot copy or pickle {self!r}: the card knows the memory of this process alone; hand over the bytes, or "
            "the channel's path, and open that"
        )

    def _forget(self) -> None:
        """Let the card forget it; entries that have begun keep the memory until they have ended."""
        number, self._id = self._id, 0
        self._destroy(number)

    def _destroy(self, number: int) -> None:
        if number:
            self._channel._remove(number)
            if self._pid == os.getpid():
                destroy(self._channel, number)


class Buffer(Shared, mmap.mmap):  # type: ignore[misc]
    """New memory, zeroed, mapped in this process and for the card: made by ``channel.buffer()``.

    It is a buffer of bytes: ``memoryview``, ``numpy.frombuffer()``; a slice is a part of it without a copy, an index a
    byte. ``readinto()`` and ``write()`` of this channel, and any other program's way to read from or write to it, move
    such memory without pinning, mapping or copying. Threads may share it.
    """

    __slots__ = ("_address", "_channel", "_flags", "_id", "_pid", "_size")

    def __new__(
        cls, channel: Channel, size: SupportsIndex, *, c2h: bool | None = None, h2c: bool | None = None
    ) -> Self:
        """Make it; see ``channel.buffer()``."""
        size, flags = as_int(size, "the size"), directions(channel, c2h, h2c)
        if size < 1:
            raise ValueError("a buffer has at least a byte")
        made = create(channel, flags, size)
        try:
            with translated(channel.path):
                self = super().__new__(cls, -1, size, **RESERVED)
                show(channel, made, address_of(self))
        except BaseException:
            destroy(channel, made.id)
            raise
        self._share(channel, made.id, flags, address_of(self), size)
        return self

    def __init__(self, *arguments: object, **options: object) -> None:
        """Do nothing: it is made already."""

    @property
    def size(self) -> int:  # type: ignore[override]
        """Bytes."""
        return self._size

    def export_dmabuf(self) -> int:
        """Return a descriptor of it as a dma-buf, for ``import_dmabuf()`` of another card's channel, or other devices.

        The caller closes it (``os.close()``), as exec() does. Whoever has it, a mapping of it or the memory by it holds
        the memory. Raises ValueError if the Buffer is closed; OSError with EMFILE, ENFILE or ENOMEM.
        """
        if not self._id:
            raise ValueError(f"{self!r}")
        return export(self._channel, self._id)

    def resize(self, newsize: int) -> NoReturn:
        """Refuse: the card knows the memory as it is (TypeError)."""
        raise TypeError("a buffer has the size with which it was made")

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> memoryview: ...

    def __getitem__(self, key: Any) -> Any:
        """Return a byte, or for a slice that part of the memory, which close() waits for (BufferError)."""
        return memoryview(self)[key] if isinstance(key, slice) else super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set a byte, or a part to as many bytes."""
        memoryview(self)[key] = value

    def __iter__(self) -> Iterator[int]:
        """Return its bytes, one after the other."""
        return iter(memoryview(self))

    def close(self) -> None:
        """Unmap it, and let the card forget it; a second time does nothing.

        Raises BufferError while there are views of it (slices, arrays); then nothing has happened. Submitted entries
        go on, and have their results.
        """
        number, self._id = self._id, 0  # first: the place may be another's as soon as it is unmapped
        try:
            super().close()
        except BufferError:
            self._id = number
            raise
        self._destroy(number)

    def __exit__(  # type: ignore[override]
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it. When an exception passes by, views of it are no error: the memory goes with the last of them."""
        try:
            self.close()
        except BufferError:
            if kind is None:
                raise
            self._forget()


class Registration(Shared):
    """Memory of an object that the card knows, too: made by ``channel.register()``; a slice is a part of it.

    The object is kept, and cannot be resized or freed, until close(), or until entries that were submitted before have
    ended. Views of it stay what they are.
    """

    __slots__ = ("__weakref__", "_address", "_channel", "_flags", "_id", "_memory", "_pid", "_size")

    _memory: memoryview

    def __init__(self, channel: Channel, obj: BytesLike, *, c2h: bool | None = None, h2c: bool | None = None) -> None:
        """Make it; see ``channel.register()``."""
        self._id = 0
        try:
            self._memory = bytes_of(obj)
        finally:
            del obj  # which an error's traceback would keep, and if it is a view, what that is of from being closed
        try:
            self._make(channel, c2h, h2c)
        except BaseException:
            self._memory.release()
            raise

    def _make(self, channel: Channel, c2h: bool | None, h2c: bool | None) -> None:
        if not self._memory:
            raise ValueError("the object has no bytes")
        if self._memory.readonly and c2h:
            raise TypeError("the object is read-only, so that nothing can be read into it: c2h is False")
        flags = directions(channel, False if self._memory.readonly else c2h, h2c)
        address, size = address_of(self._memory), len(self._memory)
        made = create(channel, flags, size, address=address)
        self._share(channel, made.id, flags, address, size)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    @property
    def memory(self) -> memoryview:
        """The bytes of the object."""
        if not self._id:
            raise ValueError(f"{self!r}")
        return self._memory

    def __len__(self) -> int:
        """Return how many bytes it has."""
        return self._size

    @overload
    def __getitem__(self, key: SupportsIndex) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> memoryview: ...

    def __getitem__(self, key: Any) -> Any:
        """Return a byte, or for a slice that part of the memory."""
        return self.memory[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        """Set a byte, or a part to as many bytes."""
        self.memory[key] = value

    def close(self) -> None:
        """Let the card forget it, and the object go; a second time does nothing."""
        self._forget()
        self._memory = memoryview(b"")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
