"""Residue: where the bytes of the plaintext still are on the disk once its file is sealed."""

import re

from common import NAME, OVERWRITE, Broken, clear, judge, make_image, mounted, reported, run, write_file

BLOCK = 4096
CANARY = b"<<< Tobari canary 3f1c9a7e >>>\n\0"
DATA = CANARY * 8192


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


def after_sealing(programs, kind, wipe):
    """Seals the canary and looks at the raw disk."""
    image = programs.work / f"residue-{kind}.image"
    make_image(image, kind, 32)
    with mounted(image, kind) as point:
        clear(point / "folder")
        path = write_file(point / "folder", data=DATA)
        run(["sync", "-f", point])
        former = extents(path)
    if found(image) != former:
        raise Broken(f"{kind}: the canary is not where the file is: {found(image) ^ former}")
    with mounted(image, kind) as point:
        sealed = reported(programs.weakened(prefix=OVERWRITE if wipe else ()).seal_once(point / "folder", NAME))
        now = extents(point / "folder" / NAME)
        judge(programs, point / "folder", {NAME: DATA}, {NAME} if NAME in sealed else {"not sealed"})
    left = found(image)
    if wipe and left:
        raise Broken(f"{kind}: overwritten, and the canary is still in blocks {sorted(left)}")
    if not left <= former - now:
        raise Broken(f"{kind}: the canary is in blocks that were not its file's: {sorted(left - former)}")
    print(f"   {kind}, wipe {'overwrite' if wipe else 'none'}: canary in {len(left)} of {len(former)} freed blocks, and nowhere else", flush=True)
