"""The kernel's ABI, as uapi/pciedma.h has it: the same names in the same order."""

from __future__ import annotations

import ctypes
from ctypes import c_char, c_int32, c_int64, c_uint16, c_uint32, c_uint64

PCIEDMA_ABI_VERSION = 3

PCIEDMA_KIND_MEMORY = 1
PCIEDMA_KIND_MESSAGE = 2
PCIEDMA_KIND_STREAM = 3

PCIEDMA_WAIT_INTERRUPT = 0
PCIEDMA_WAIT_POLL = 1
PCIEDMA_WAIT_ADAPTIVE = 2

PCIEDMA_TIMEOUT_NONE = -1
PCIEDMA_ENGINE_PRESENT = 1 << 0
PCIEDMA_WINDOW_MAPPABLE = 1 << 0
PCIEDMA_WINDOW_WRITE_COMBINING = 1 << 1
PCIEDMA_MAX_EVENTS = 32
PCIEDMA_BUFFER_C2H = 1 << 0
PCIEDMA_BUFFER_H2C = 1 << 1
PCIEDMA_BUFFER_NEW = 1
PCIEDMA_BUFFER_USER = 2
PCIEDMA_BUFFER_DMABUF = 3
PCIEDMA_ENTRY_C2H = 1 << 0
PCIEDMA_ENTRY_H2C = 1 << 1
PCIEDMA_ENTRY_BARRIER = 1 << 2
PCIEDMA_ENTRY_MAX = 0x7FFFF000
PCIEDMA_ENTRIES = 4096
PCIEDMA_TRANSFER_SUBMIT = 1 << 0
PCIEDMA_TRANSFER_EACH = 1 << 1
PCIEDMA_SIZE_UNKNOWN = (1 << 63) - 1


class pciedma_card_info(ctypes.Structure):  # noqa: N801
    """``struct pciedma_card_info``."""

    _fields_ = [
        ("flags", c_uint32),
        ("abi_version", c_uint32),
        ("index", c_uint32),
        ("channels", c_uint32),
        ("vendor", c_uint16),
        ("device", c_uint16),
        ("subsystem_vendor", c_uint16),
        ("subsystem_device", c_uint16),
        ("name", c_char * 16),
        ("pci_address", c_char * 16),
        ("driver_version", c_char * 24),
        ("event_lines", c_uint32),
        ("windows", c_uint32),
        ("reserved", c_uint32 * 6),
    ]


class pciedma_engine_info(ctypes.Structure):  # noqa: N801
    """``struct pciedma_engine_info``."""

    _fields_ = [
        ("flags", c_uint32),
        ("address_bits", c_uint32),
        ("max_dma", c_uint64),
        ("address_alignment", c_uint32),
        ("length_granularity", c_uint32),
        ("buffers", c_uint32),
        ("buffer_size", c_uint32),
        ("drain_ms", c_uint32),
        ("reserved", c_uint32),
    ]


class pciedma_channel_info(ctypes.Structure):  # noqa: N801
    """``struct pciedma_channel_info``."""

    _fields_ = [
        ("flags", c_uint32),
        ("card", c_uint32),
        ("channel", c_uint32),
        ("kind", c_uint32),
        ("size", c_uint64),
        ("c2h", pciedma_engine_info),
        ("h2c", pciedma_engine_info),
        ("reserved", c_uint32 * 8),
    ]


class pciedma_window_info(ctypes.Structure):  # noqa: N801
    """``struct pciedma_window_info``."""

    _fields_ = [
        ("flags", c_uint32),
        ("card", c_uint32),
        ("window", c_uint32),
        ("widths", c_uint32),
        ("size", c_uint64),
        ("mmap_offset", c_uint64),
        ("name", c_char * 16),
        ("bar", c_uint32),
        ("reserved", c_uint32 * 7),
    ]


class pciedma_wait(ctypes.Structure):  # noqa: N801
    """``struct pciedma_wait``."""

    _fields_ = [
        ("flags", c_uint32),
        ("mode", c_uint32),
        ("timeout_ns", c_int64),
        ("reserved", c_uint32 * 4),
    ]


class pciedma_reset(ctypes.Structure):  # noqa: N801
    """``struct pciedma_reset``."""

    _fields_ = [
        ("flags", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class pciedma_cancel(ctypes.Structure):  # noqa: N801
    """``struct pciedma_cancel``."""

    _fields_ = [
        ("flags", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class pciedma_events(ctypes.Structure):  # noqa: N801
    """``struct pciedma_events``."""

    _fields_ = [
        ("flags", c_uint32),
        ("lines", c_uint32),
        ("eventfd", c_int32),
        ("reserved", c_uint32 * 5),
    ]


class pciedma_buffer_create(ctypes.Structure):  # noqa: N801
    """``struct pciedma_buffer_create``."""

    _fields_ = [
        ("flags", c_uint32),
        ("type", c_uint32),
        ("address", c_uint64),
        ("size", c_uint64),
        ("fd", c_int32),
        ("id", c_uint32),
        ("mmap_offset", c_uint64),
        ("reserved", c_uint32 * 4),
    ]


class pciedma_buffer_destroy(ctypes.Structure):  # noqa: N801
    """``struct pciedma_buffer_destroy``."""

    _fields_ = [
        ("flags", c_uint32),
        ("id", c_uint32),
        ("reserved", c_uint32 * 2),
    ]


class pciedma_buffer_export(ctypes.Structure):  # noqa: N801
    """``struct pciedma_buffer_export``."""

    _fields_ = [
        ("flags", c_uint32),
        ("id", c_uint32),
        ("fd", c_int32),
        ("reserved", c_uint32),
    ]


class pciedma_transfer_entry(ctypes.Structure):  # noqa: N801
    """``struct pciedma_transfer_entry``."""

    _fields_ = [
        ("flags", c_uint32),
        ("buffer", c_uint32),
        ("offset", c_uint64),
        ("length", c_uint64),
        ("address", c_uint64),
        ("tag", c_uint64),
        ("reserved", c_uint32 * 2),
    ]


class pciedma_transfer_result(ctypes.Structure):  # noqa: N801
    """``struct pciedma_transfer_result``."""

    _fields_ = [
        ("tag", c_uint64),
        ("bytes", c_uint64),
        ("error", c_uint32),
        ("reserved", c_uint32),
    ]


class pciedma_transfer_batch(ctypes.Structure):  # noqa: N801
    """``struct pciedma_transfer_batch``."""

    _fields_ = [
        ("flags", c_uint32),
        ("count", c_uint32),
        ("entries", c_uint64),
        ("results", c_uint64),
        ("taken", c_uint32),
        ("reserved", c_uint32),
    ]


class pciedma_transfer_wait(ctypes.Structure):  # noqa: N801
    """``struct pciedma_transfer_wait``."""

    _fields_ = [
        ("flags", c_uint32),
        ("min", c_uint32),
        ("max", c_uint32),
        ("reserved", c_uint32),
        ("timeout_ns", c_int64),
        ("results", c_uint64),
    ]


class pciedma_transfer_eventfd(ctypes.Structure):  # noqa: N801
    """``struct pciedma_transfer_eventfd``."""

    _fields_ = [
        ("flags", c_uint32),
        ("eventfd", c_int32),
        ("reserved", c_uint32 * 2),
    ]


PCIEDMA_IOC_MAGIC = 0xDA

_IOC_WRITE, _IOC_READ = 1, 2


def _ioc(direction: int, number: int, structure: type[ctypes.Structure]) -> int:
    """Encode a request as ``<asm-generic/ioctl.h>`` does."""
    return direction << 30 | ctypes.sizeof(structure) << 16 | PCIEDMA_IOC_MAGIC << 8 | number


PCIEDMA_IOC_CARD_INFO = _ioc(_IOC_READ | _IOC_WRITE, 0x00, pciedma_card_info)
PCIEDMA_IOC_CHANNEL_INFO = _ioc(_IOC_READ | _IOC_WRITE, 0x01, pciedma_channel_info)
PCIEDMA_IOC_GET_WAIT = _ioc(_IOC_READ | _IOC_WRITE, 0x02, pciedma_wait)
PCIEDMA_IOC_SET_WAIT = _ioc(_IOC_WRITE, 0x03, pciedma_wait)
PCIEDMA_IOC_RESET = _ioc(_IOC_WRITE, 0x04, pciedma_reset)
PCIEDMA_IOC_CANCEL = _ioc(_IOC_WRITE, 0x05, pciedma_cancel)
PCIEDMA_IOC_SET_EVENTS = _ioc(_IOC_WRITE, 0x06, pciedma_events)
PCIEDMA_IOC_GET_EVENTS = _ioc(_IOC_READ | _IOC_WRITE, 0x07, pciedma_events)
PCIEDMA_IOC_WINDOW_INFO = _ioc(_IOC_READ | _IOC_WRITE, 0x08, pciedma_window_info)
PCIEDMA_IOC_BUFFER_CREATE = _ioc(_IOC_READ | _IOC_WRITE, 0x09, pciedma_buffer_create)
PCIEDMA_IOC_BUFFER_DESTROY = _ioc(_IOC_WRITE, 0x0A, pciedma_buffer_destroy)
PCIEDMA_IOC_TRANSFER = _ioc(_IOC_READ | _IOC_WRITE, 0x0B, pciedma_transfer_batch)
PCIEDMA_IOC_TRANSFER_WAIT = _ioc(_IOC_WRITE, 0x0C, pciedma_transfer_wait)
PCIEDMA_IOC_BUFFER_EXPORT = _ioc(_IOC_READ | _IOC_WRITE, 0x0E, pciedma_buffer_export)
PCIEDMA_IOC_TRANSFER_EVENTFD = _ioc(_IOC_WRITE, 0x0D, pciedma_transfer_eventfd)
