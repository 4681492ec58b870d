"""Part (c): the power fails at a random moment while files are sealed, on real journaling file systems.

The file system is shut down without writing its log (`xfs_io -x -c shutdown`), so what was not synced is gone.
"""

import collections
import random
import subprocess
import time

from common import Broken, clear, content, judge, make_image, mounted, reported, run, write_file

SIZES = (0, 700, 5000, 100_000, 300_000, 33, 40_000, 4096)


def cuts(programs, kind, count, seed=0):
    """`count` cuts on a file system of `kind`."""
    chance = random.Random(seed)
    image = programs.work / f"power-{kind}.image"
    make_image(image, kind, 64)
    files = {f"{number}/ファイル": content(size, number) for number, size in enumerate(SIZES)}
    states, at = collections.Counter(), collections.Counter()
    with mounted(image, kind) as point:
        began = time.monotonic()
        prepare(point, files)
        sealing(programs, point, files, None)
        longest = max(time.monotonic() - began, 0.1)
    for number in range(count):
        with mounted(image, kind) as point:
            prepare(point, files)
            output = sealing(programs, point, files, chance.uniform(0, longest))
        with mounted(image, kind) as point:
            sealed = reported(output)
            at[len(sealed)] += 1
            try:
                states.update(judge(programs, point / "folder", files, sealed).values())
            except Broken as broken:
                raise Broken(f"{kind}, cut {number}: {broken}") from None
    check_file_system(image, kind)
    print(f"   {kind}: {count} cuts (after so many of {len(files)} files were done: {dict(sorted(at.items()))}); "
          f"{dict(states)}", flush=True)


def prepare(point, files):
    """Files as users leave them: durable."""
    clear(point / "folder")
    for name, data in files.items():
        write_file(point / "folder", name, data)
    run(["sync", "-f", point])


def sealing(programs, point, files, cut_after):
    """Seals `files`, cut after so many seconds; the output up to then."""
    line, environment = programs.command("seal", programs.keys, point / "folder", *files)
    process = subprocess.Popen([*programs.prefix, *line], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if cut_after is not None:
        time.sleep(cut_after)
        run(["xfs_io", "-x", "-c", "shutdown", point])
    output, _ = process.communicate(timeout=60)
    return output


def check_file_system(image, kind):
    """The file system itself came through."""
    with mounted(image, kind):
        pass
    run(["e2fsck", "-fn", image] if kind == "ext4" else ["xfs_repair", "-n", image])


def done_then_cut(programs, kind, tries=10):
    """The power fails right after the program said that all is done."""
    image = programs.work / f"done-{kind}.image"
    make_image(image, kind, 64)
    files = {"a/b": content(100_000, 1)}
    for _ in range(tries):
        with mounted(image, kind) as point:
            prepare(point, files)
            output = sealing(programs, point, files, None)
            run(["xfs_io", "-x", "-c", "shutdown", point])
        with mounted(image, kind) as point:
            judge(programs, point / "folder", files, reported(output))
    print(f"   {kind}: {tries} cuts right after the end", flush=True)
