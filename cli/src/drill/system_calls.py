"""System calls for which no library has safe functions: `io-uring FILE` and `file-handle FILE`. What is written is in the environment.

Ends with 0 when it was let, and otherwise with the system's words on standard error.
"""
import ctypes
import mmap
import os
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
SETUP, ENTER, NAME_TO_HANDLE, OPEN_BY_HANDLE = 425, 426, 303, 304
if os.uname().machine == "aarch64":
    NAME_TO_HANDLE, OPEN_BY_HANDLE = 264, 265
WRITE, GET_EVENTS = 23, 1


def call(number, *arguments):
    result = LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        sys.exit(os.strerror(ctypes.get_errno()))
    return result


def io_uring(path, text):
    """One write by a ring (linux/io_uring.h: 40 bytes of parameters, then the offsets of both queues)."""
    parameters = ctypes.create_string_buffer(120)
    ring = call(SETUP, ctypes.c_uint(1), parameters)
    submission, completion = struct.unpack_from("<10I", parameters, 40), struct.unpack_from("<10I", parameters, 80)
    head, tail, mask, entries, flags, dropped, array = submission[:7]
    queue = mmap.mmap(ring, array + 4 * 8, offset=0)
    items = mmap.mmap(ring, 64, offset=0x10000000)
    answers = mmap.mmap(ring, completion[5] + 2 * 16, offset=0x8000000)
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    data = ctypes.create_string_buffer(text, len(text))
    items[0:64] = struct.pack("<BBHiQQIIQ", WRITE, 0, 0, file, 0, ctypes.addressof(data), len(text), 0, 7) + bytes(24)
    queue[array:array + 4] = bytes(4)
    queue[tail:tail + 4] = struct.pack("<I", 1)
    call(ENTER, ctypes.c_uint(ring), ctypes.c_uint(1), ctypes.c_uint(1), ctypes.c_uint(GET_EVENTS), None, ctypes.c_size_t(0))
    result = struct.unpack_from("<Qi", answers, completion[5])[1]
    if result != len(text):
        sys.exit(f"the ring wrote {result}")


def file_handle(path, _):
    """A folder opened by its handle: kernels let nobody but root open files so, and root of a namespace folders."""
    place = os.path.dirname(path)
    # As root of a user namespace; elsewhere it is refused, and what is there serves.
    if LIBC.mount(b"none", b"/tmp", b"tmpfs", ctypes.c_ulong(0), None) == 0:
        place = "/tmp"
    handle = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0) + bytes(128))
    mounted = ctypes.c_int()
    call(NAME_TO_HANDLE, ctypes.c_int(-100), os.fsencode(place), handle, ctypes.byref(mounted), ctypes.c_int(0))
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    call(OPEN_BY_HANDLE, ctypes.c_int(directory), handle, ctypes.c_int(os.O_RDONLY | os.O_DIRECTORY))


WAYS = {"io-uring": io_uring, "file-handle": file_handle}
WAYS[sys.argv[1]](sys.argv[2], os.environb[b"TOBARI_DRILL_SAID"])
