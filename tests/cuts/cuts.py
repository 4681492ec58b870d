"""The crash suite of sealing in place: docs/spec/sealing.md, "What is shown by which test". `run.sh` builds and starts it.

    cuts.py [--long] --seal PROGRAM --unsafe PROGRAM --block-log PROGRAM [PART...]

Needs root, loop devices, strace, xfsprogs, e2fsprogs and eatmydata.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

import faults
import power
import replay
import residue
from common import OVERWRITE, Broken, Programs, make_image, mounted, must_break, run

KINDS = ("ext4", "xfs")


def calls(programs, long):
    """System calls that fail, and deaths between them."""
    image = programs.work / "calls.image"
    make_image(image, "ext4", 64)
    with mounted(image, "ext4") as mount:
        sizes, errors = ((700, 100_000, 2_500_000), faults.ERRORS) if long else ((5000,), faults.ERRORS)
        faults.every(programs, mount, sizes, errors)
        faults.every(programs.weakened(prefix=OVERWRITE), mount, sizes, errors if long else errors[:1])
        faults.recovery(programs, mount, errors if long else errors[:1])
        if long:
            faults.recovery(programs.weakened(prefix=OVERWRITE), mount, errors)
        faults.lost_writes(programs, mount)
        faults.held_open(programs, mount)
        must_break("the read-back", faults.lost_writes, programs.weakened("read-back"), mount)
        must_break("the lease", faults.held_open, programs.weakened("lease"), mount)


def power_cuts(programs, long):
    """The power fails."""
    for kind in KINDS:
        power.cuts(programs, kind, 500 if long else 25)
        power.done_then_cut(programs, kind, 25 if long else 5)
        must_break(f"any directory sync ({kind})", power.done_then_cut, programs.weakened("directory-sync"), kind)


def replays(programs, long):
    """Prefixes of what was written to the disk."""
    for kind in KINDS:
        replay.prefixes(programs, kind, samples=8 if long else 0)
        must_break(f"any directory sync ({kind})", replay.prefixes, programs.weakened("directory-sync"), kind)
        must_break(f"durable writes, by eatmydata ({kind})", replay.prefixes, programs.weakened(prefix=("eatmydata",)), kind)


def residues(programs, _long):
    """What is left on the disk."""
    for kind in KINDS:
        residue.after_sealing(programs, kind, wipe=False)
        residue.after_sealing(programs, kind, wipe=True)


PARTS = {"calls": calls, "power": power_cuts, "replay": replays, "residue": residues}


def main():
    """Runs the parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--long", action="store_true")
    for program in ("seal", "unsafe", "block-log"):
        parser.add_argument(f"--{program}", type=lambda text: pathlib.Path(text).resolve(), required=True)
    parser.add_argument("parts", nargs="*")
    arguments = parser.parse_args()
    memory = pathlib.Path("/dev/shm")
    work = pathlib.Path(tempfile.mkdtemp(prefix="tobari-cuts-", dir=memory if memory.is_dir() else None))
    try:
        keys = work / "keys"
        keys.mkdir()
        run([arguments.seal, "keys", keys])
        programs = Programs(arguments.seal, arguments.unsafe, arguments.block_log, work, keys)
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
