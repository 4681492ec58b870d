"""Suites of others against the view. `run.sh` builds, installs and starts it.

    suites.py [--long] --mount PROGRAM --programs FOLDER [posix|fsx|soak ...]

Needs root, FUSE, loop devices and strace; for the soak also stress-ng.
"""

import argparse
import pathlib
import sys
import tempfile

import conformance
import exerciser
import soak
from common import Broken, Programs, run, step

PARTS = {"posix": conformance.suite, "fsx": exerciser.suite, "soak": soak.suite}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--mount", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[[], *PARTS])
    arguments = parser.parse_args()
    parts = arguments.parts or [part for part in PARTS if arguments.long or part != "soak"]
    with tempfile.TemporaryDirectory(prefix="tobari-suites-") as work:
        programs = Programs(arguments.mount, arguments.programs, pathlib.Path(work))
        # Other users are part of the tests.
        programs.work.chmod(0o711)
        programs.keys.mkdir(0o700)
        run([programs.mount, "keys", programs.keys])
        try:
            for part in parts:
                with step(part):
                    PARTS[part](programs, arguments.long)
        except Broken as reason:
            print(f"BROKEN: {reason}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
