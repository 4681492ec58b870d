"""The crash suite of sealing in place: docs/spec/sealing.md, "What is shown by which test". `run.sh` builds and starts it.

    cuts.py [--long] --seal PROGRAM --unsafe PROGRAM --block-log PROGRAM --binaries FOLDER [PART...]

Needs root, loop devices, strace, xfsprogs, e2fsprogs and eatmydata.
"""

import argparse
import pathlib
import shutil
import signal
import sys
import tempfile
import time

import faults
import power
import races
import replay
import residue
import rewrite
import view
from common import EATEN, OVERWRITE, Broken, Programs, group, large, make_image, mounted, must_break, run, single

KINDS = ("ext4", "xfs")


def calls(programs, long):
    """System calls that fail, deaths between them, and others at work meanwhile."""
    image = programs.work / "calls.image"
    make_image(image, "ext4", 96)
    overwriting = programs.weakened(prefix=OVERWRITE)
    few = faults.ERRORS if long else faults.ERRORS[:1]
    with mounted(image, "ext4") as mount:
        for size in (700, 5000, 100_000) if long else (5000,):
            faults.every(programs, mount, single(size), faults.ERRORS)
            faults.every(overwriting, mount, single(size), few if long else ())
        for case in (group(), large()) if long else (group(5000, 0), large(1_100_000)):
            faults.every(programs, mount, case, few if long or case.grouped else ())
            if long:
                faults.every(overwriting, mount, case, few[:1])
        for case in (single(), group(5000, 0)):
            faults.recovery(programs, mount, case, few, None if long else 3)
            if long:
                faults.recovery(overwriting, mount, case, few)
        for case in (single(100_000), group(5000, 70_000), large(1_100_000)):
            faults.lost_writes(programs, mount, case)
            must_break("the read-back", faults.lost_writes, programs.weakened("read-back"), mount, case)
            races.held_open(programs, mount, case)
            must_break("the lease", races.held_open, programs.weakened("lease"), mount, case)
        for case in (single(), group(5000, 70)):
            for fault in ("signal=STOP", "signal=KILL"):
                races.late_openers(programs, mount, case, fault)
            must_break("the lease", races.late_openers, programs.weakened("lease"), mount, case)
            must_break("the journal", races.late_openers, programs.weakened("journal"), mount, case, "signal=KILL")


def power_cuts(programs, long):
    """The power fails."""
    for kind in KINDS:
        power.cuts(programs, kind, 510 if long else 25)
        for case in (single(100_000), group(), large()):
            power.done_then_cut(programs, kind, case, 25 if long else 3)
            must_break(f"directory syncs ({kind}, {case})", power.done_then_cut, programs.weakened("directory-sync"), kind, case)
            must_break(f"durable writes ({kind}, {case})", power.done_then_cut, programs.weakened(prefix=EATEN), kind, case)


def replays(programs, long):
    """Prefixes of what was written to the disk."""
    for kind in KINDS:
        for case in (single(60_000), group(5000, 0, 30_000), large(1_100_000)):
            replay.prefixes(programs, kind, case, samples=8 if long else 0)
            must_break(f"directory syncs ({kind}, {case})", replay.prefixes, programs.weakened("directory-sync"), kind, case)
            must_break(f"durable writes ({kind}, {case})", replay.prefixes, programs.weakened(prefix=EATEN), kind, case)
        must_break(f"durable writes, by eatmydata ({kind})", replay.prefixes, programs.weakened(prefix=("eatmydata",)), kind, single(60_000))


def residues(programs, _long):
    """What is left on the disk."""
    for kind in KINDS:
        for case in residue.CASES:
            residue.after_sealing(programs, kind, case, wipe=False)
            residue.after_sealing(programs, kind, case, wipe=True)


def rewrites(programs, long):
    """Header changes and reseals that are cut short."""
    rewrite.rewrites(programs, long)


def views(programs, long):
    """The power fails while programs work in a mounted view."""
    for kind in KINDS:
        view.cuts(programs, kind, 500 if long else 8)
        view.synced_then_cut(programs, kind, 50 if long else 2)
        view.synced_by_another_then_cut(programs, kind, 10 if long else 1)
        eaten = programs.weakened(prefix=("eatmydata",))
        must_break(f"durable writes ({kind})", view.synced_then_cut, eaten, kind, 3)
        must_break(f"another's durable writes ({kind})", view.synced_by_another_then_cut, eaten, kind, 3)
        view.prefixes(programs, kind, 40 if long else 10, 1 if long else 0.15)
        must_break(f"the view's journal ({kind})", view.prefixes, programs.weakened("view-journal"), kind, 20, 1)


PARTS = {"calls": calls, "power": power_cuts, "replay": replays, "residue": residues, "rewrite": rewrites, "view": views}


def main():
    """Runs the parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    for program in ("seal", "unsafe", "block-log", "view", "unsafe-view", "binaries"):
        parser.add_argument(f"--{program}", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("parts", nargs="*")
    arguments = parser.parse_args()
    # Told to end, it unmounts what it mounted.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    memory = pathlib.Path("/dev/shm")
    work = pathlib.Path(tempfile.mkdtemp(prefix="tobari-cuts-", dir=memory if memory.is_dir() else None))
    try:
        keys = work / "keys"
        keys.mkdir()
        run([arguments.seal, "keys", keys])
        programs = Programs(arguments.seal, arguments.unsafe, arguments.block_log, arguments.view, arguments.unsafe_view, arguments.binaries, work, keys)
        for name in arguments.parts or PARTS:
            began = time.monotonic()
            print(f"-- {name}", flush=True)
            PARTS[name](programs, arguments.long)
            print(f"   {time.monotonic() - began:.0f} s", flush=True)
    except Broken as broken:
        sys.exit(f"FAILED: {broken}")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
