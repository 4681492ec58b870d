"""Residue: where the bytes of the plaintext still are on the disk once its file is sealed."""

import re

from common import NAME, OVERWRITE, Broken, Case, judge, lay, make_image, mounted, reported, run

BLOCK = 4096
CANARY = b"<<< Tobari canary 3f1c9a7e >>>\n\0"
CASES = (
    Case("one file", {NAME: CANARY * 8192}),
    Case("a group", {f"課/{number}": CANARY * (512 + number) for number in range(12)}, grouped=True),
    Case("a large file", {NAME: CANARY * 80_000}, threads=3),
)


def extents(path):
    """The blocks of a file, counted from the start of the file system."""
    blocks = set()
    for line in run(["filefrag", "-s", f"-b{BLOCK}", "-v", path]).stdout.splitlines():
        match = re.match(r"\s*\d+:\s*\d+\.\.\s*\d+:\s*(\d+)\.\.\s*(\d+):", line)
        if match:
            blocks |= set(range(int(match[1]), int(match[2]) + 1))
    return blocks


def found(image):
    """The blocks of the image in which the canary is."""
    raw, blocks, at = image.read_bytes(), set(), -1
    while (at := raw.find(CANARY[:20], at + 1)) >= 0:
        blocks.add(at // BLOCK)
    return blocks


def after_sealing(programs, kind, case, wipe):
    """Seals the canary and looks at the raw disk."""
    image = programs.work / f"residue-{kind}.image"
    make_image(image, kind, 32)

    def blocks(point):
        return set().union(*(extents(point / "folder" / name) for name in case.files))

    with mounted(image, kind) as point:
        lay(point / "folder", case)
        run(["sync", "-f", point])
        former = blocks(point)
    if found(image) != former:
        raise Broken(f"{kind}: the canary is not where the files are: {found(image) ^ former}")
    with mounted(image, kind) as point:
        sealed = reported(programs.weakened(prefix=OVERWRITE if wipe else ()).seal(point / "folder", case))
        now = blocks(point)
        if sealed != set(case.files):
            raise Broken(f"{kind}, {case}: only {sorted(sealed)} were sealed")
        judge(programs, point / "folder", case.files, sealed)
    left = found(image)
    if wipe and left:
        raise Broken(f"{kind}, {case}: overwritten, and the canary is still in blocks {sorted(left)}")
    if not left <= former - now:
        raise Broken(f"{kind}, {case}: the canary is in blocks that were not its file's: {sorted(left - former)}")
    print(f"   {kind}, {case}, wipe {'overwrite' if wipe else 'none'}: canary in {len(left)} of {len(former)} blocks of the former files, and nowhere else", flush=True)
