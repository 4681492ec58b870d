"""Part (d): what a disk may hold when the power fails: all that was written up to a flush, and any part of what came after it.

The disk is a loop device over a file in FUSE (`block-log`), which logs writes and flushes while files are sealed. Every
prefix of the log is made an image, mounted, and judged; beyond that, samples of the states in which the disk wrote
what came after the last flush in another order.
"""

import collections
import contextlib
import random
import struct
import subprocess
import tempfile

from common import Broken, judge, lay, make_image, mounted, reported, run

SUPERBLOCK = 1024
SECTOR = 512


def record(programs, kind, case):
    """Seals on a logging disk. The disk before, and the log from the start of the sealing on."""
    image, log = programs.work / f"replay-{kind}.image", programs.work / f"replay-{kind}.log"
    make_image(image, kind, 24 if kind == "ext4" else 32)
    with mounted(image, kind) as point:
        lay(point / "folder", case)
        judge(programs, point / "folder", case.files)
    base = bytearray(image.read_bytes())
    with logged(programs, image, log, kind) as (point, mark):
        mark("begin")
        sealed = reported(programs.seal(f"{point}/folder", case))
        mark("sealed" if sealed == set(case.files) else "stopped")
        mark("end")
    return base, parse(log.read_bytes())


@contextlib.contextmanager
def logged(programs, image, log, kind):
    """The file system in `image` on a disk that logs to `log`: where it is mounted, and what puts a mark into the log."""
    with contextlib.ExitStack() as undo:
        share = tempfile.mkdtemp(prefix="tobari-disk-")
        undo.callback(run, ["rmdir", share])
        server = subprocess.Popen([programs.block_log, image, log, share], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        undo.callback(server.wait, 60)
        undo.callback(server.stdin.close)

        def expect(word):
            if server.stdout.readline().strip() != word:
                raise RuntimeError("block-log failed")

        def mark(text):
            server.stdin.write(text + "\n")
            server.stdin.flush()
            expect("marked")

        expect("ready")
        loop = run(["losetup", "--find", "--show", f"{share}/disk"]).stdout.strip()
        undo.callback(run, ["losetup", "-d", loop])
        with mounted_device(loop, kind) as point:
            run(["sync", "-f", point])
            yield point, mark


@contextlib.contextmanager
def mounted_device(device, kind):
    """As `mounted`, of a block device."""
    point = tempfile.mkdtemp(prefix="tobari-cuts-")
    try:
        run(["mount", "-t", kind, device, point])
        try:
            yield point
        finally:
            run(["umount", point])
    finally:
        run(["rmdir", point])


def parse(log):
    """The records: kind, offset, data."""
    records, at = [], 0
    while at < len(log):
        kind, offset, length = struct.unpack_from("<cQI", log, at)
        records.append((kind.decode(), offset, log[at + 13 : at + 13 + length]))
        at += 13 + length
    return records


def prefixes(programs, kind, case, samples=0, seed=0):
    """Judges every prefix, and `samples` reorderings at each of them."""
    chance = random.Random(seed)
    disk, log = record(programs, kind, case)
    begun, done, pending = False, set(), []
    states, flushes, writes = collections.Counter(), 0, 0

    def look(image, where):
        path = programs.work / f"prefix-{kind}.image"
        path.write_bytes(image)
        try:
            with mounted(path, kind) as point:
                states.update(judge(programs, point / "folder", case.files, done).values())
        except Broken as broken:
            raise Broken(f"{kind}, {case}, {where}: {broken}") from None

    for position, (what, offset, bytes_) in enumerate(log):
        if what == "M":
            begun |= bytes_ == b"begin"
            if bytes_ == b"sealed":
                done = set(case.files)
            if bytes_ == b"end":
                break
        elif what == "W":
            pending.append((offset, bytes_))
            writes += begun
        else:
            for one in pending:
                apply(disk, *one)
            pending = []
            flushes += begun
        if begun:
            image = bytearray(disk)
            if pending or what == "M":
                # Nothing since the flush reached the disk, unless the last record says more.
                look(image, f"flushed state at record {position}")
            for one in pending:
                apply(image, *one)
            look(image, f"prefix up to record {position}")
            for _ in range(samples if pending else 0):
                image = bytearray(disk)
                for start, written in pending:
                    if chance.random() < 0.5:
                        # The superblock of ext4 has two sectors and is never repaired from its journal: torn, it is no file system any more.
                        whole = kind == "ext4" and start <= SUPERBLOCK < start + len(written)
                        torn = len(written) if whole or chance.random() < 0.7 else SECTOR * chance.randrange(len(written) // SECTOR + 1)
                        apply(image, start, written[:torn])
                look(image, f"part of what came before record {position}")
    print(f"   {kind}, {case}: {writes} writes, {flushes} flushes, {sum(states.values())} images: {dict(states)}", flush=True)


def apply(disk, offset, data):
    """One write."""
    disk[offset : offset + len(data)] = data
