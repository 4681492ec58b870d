"""Part (c): the power fails at a random moment while files are sealed, on real journaling file systems.

The file system is shut down without writing its log (`xfs_io -x -c shutdown`), so what was not synced is gone.
"""

import collections
import random
import subprocess
import time

from common import Broken, Case, content, judge, lay, large, make_image, mounted, reported, run

SIZES = (0, 700, 5000, 100_000, 300_000, 33, 40_000, 4096)
MEGABYTES = 64


def cases():
    """What is sealed: one file after the other, a group, a file that several threads work on."""
    files = {f"{number}/ファイル": content(size, number) for number, size in enumerate(SIZES)}
    many = {f"{number % 3}/{number}": content(SIZES[number % 8] // 8, number) for number in range(24)}
    return Case("files", files), Case("group", many, grouped=True), large()


def cuts(programs, kind, count, seed=0):
    """`count` cuts on a file system of `kind`, shared by the paths through the sealer."""
    chance = random.Random(seed)
    image = programs.work / f"power-{kind}.image"
    make_image(image, kind, MEGABYTES)
    for index, case in enumerate(all_cases := cases()):
        share = (count + index) // len(all_cases)
        states, done = collections.Counter(), collections.Counter()
        with mounted(image, kind) as point:
            prepare(point, case)
            began = time.monotonic()
            sealing(programs, point, case, None)
            longest = max(time.monotonic() - began, 0.05)
        for number in range(share):
            with mounted(image, kind) as point:
                prepare(point, case)
                # The exchanges come late: half of the cuts are there.
                output = sealing(programs, point, case, chance.uniform(number % 2 * 0.6, 1.05) * longest)
            with mounted(image, kind) as point:
                sealed = reported(output)
                try:
                    found = list(judge(programs, point / "folder", case.files, sealed).values())
                except Broken as broken:
                    raise Broken(f"{kind}, {case}, cut {number}: {broken}") from None
                states.update(found)
                kinds = set(found)
                done["some" if len(kinds) > 1 else "all" if "sealed" in kinds else "none"] += 1
        print(f"   {kind}, {case}: {share} cuts of {len(case.files)} files (afterwards sealed: {dict(sorted(done.items()))}); "
              f"{dict(states)}", flush=True)
    check_file_system(image, kind)


def prepare(point, case):
    """Files as users leave them: durable."""
    lay(point / "folder", case)
    run(["sync", "-f", point])


def sealing(programs, point, case, cut_after):
    """Seals the files, cut after so many seconds; the output up to then."""
    line, environment = programs.sealing(point / "folder", case)
    process = subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
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


def done_then_cut(programs, kind, case, tries=10):
    """The power fails right after the program said that all is done."""
    image = programs.work / f"done-{kind}.image"
    make_image(image, kind, MEGABYTES)
    for _ in range(tries):
        with mounted(image, kind) as point:
            prepare(point, case)
            output = sealing(programs, point, case, None)
            run(["xfs_io", "-x", "-c", "shutdown", point])
        with mounted(image, kind) as point:
            judge(programs, point / "folder", case.files, reported(output))
    print(f"   {kind}, {case}: {tries} cuts right after the end", flush=True)
