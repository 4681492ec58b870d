"""pjdfstest: what ext4 passes, the view over ext4 passes."""

import contextlib
import os
import re
import shutil

from common import Broken, image, must_break, run, view

# Tests that come out differently on the view than on ext4, and why.
EXCEPTIONS = {
    # It writes behind 2 GiB of hole into an image of half a GiB. A hole takes space in a sealed file: each chunk is sealed.
    "open::interact_2gb": "FAILED",
    # The kernel does not know the largest number of links of any FUSE file system; that of the folder beneath counts.
    "link::link_count_max": "skipped",
}
# Of pjdfstest 0.2.2 on Linux. Tests that do not run show nothing.
TESTS = 398
# Accounts that every Debian has.
CONFIGURATION = """
[features]
posix_fallocate = {{}}
rename_ctime = {{}}
utime_now = {{}}
utimensat = {{}}
[settings]
allow_remount = {remount}
# Longer than the granularity of time stamps, which is a tick of the kernel's clock.
naptime = 0.02
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""
OUTCOME = re.compile(r"^(\S+::\S+)\s+(ok|FAILED|skipped)$")


def suite(programs, _long):
    """Runs it on both, and on a view that nobody can write to."""
    with image(programs.work, "ext4") as native:
        expected = outcomes(programs, native)
        # What came out otherwise once, on a busy machine, is run once more by itself.
        expected |= again(programs, native, [name for name, said in expected.items() if said[0] != "ok"])
    if len(expected) != TESTS:
        raise Broken(f"{len(expected)} tests, not {TESTS}")
    if wrong := {name: said for name, said in expected.items() if said[0] != "ok"}:
        raise Broken(f"on ext4 itself: {wrong}")
    with image(programs.work, "under") as native:
        folder = native / "folder"
        folder.mkdir()
        with view(programs, folder) as place:
            found = outcomes(programs, place)
            compare(expected, found | again(programs, place, deviating(expected, found)))
            must_break("a read-only view", compare_read_only, programs, expected, place)
        if left := [name for name in os.listdir(folder) if name != ".tobari"]:
            raise Broken(f"left behind in the folder: {left}")
    print(f"  pjdfstest: {TESTS} tests, {len(EXCEPTIONS)} exceptions")


def outcomes(programs, place, pattern=""):
    """Runs the suite in `place`: name of each test to its outcome and what it said."""
    with second_file_system(programs) as second:
        results = once(programs, place, second, pattern, "false")
        # Those that make the file system read-only run by themselves: others leave files open in this process.
        return results | once(programs, place, second, "erofs", "true") if not pattern else results


def again(programs, place, names):
    """Runs these tests once more, each by itself."""
    results = {}
    with second_file_system(programs) as second:
        for name in names:
            print(f"  pjdfstest: once more, alone: {name}", flush=True)
            said = once(programs, place, second, name, "true" if "erofs" in name else "false")
            results |= {key: value for key, value in said.items() if key == name}
    return results


def deviating(expected, found):
    """The tests that come out differently than they must."""
    wanted = {name: EXCEPTIONS.get(name, outcome) for name, (outcome, _) in expected.items()}
    return [name for name, outcome in wanted.items() if found.get(name, ("not run", []))[0] != outcome]


def once(programs, place, second, pattern, remount):
    """One run of the program."""
    configuration = programs.work / "pjdfstest.toml"
    configuration.write_text(CONFIGURATION.format(remount=remount))
    line = [programs.bin / "pjdfstest", "-c", configuration, "-s", second, "-p", place, *filter(None, [pattern])]
    path = f"{remounting(programs)}:{os.environ['PATH']}"
    output = run(line, check=False, env={**os.environ, "PATH": path, "NO_COLOR": "1", "RUST_BACKTRACE": "0"}).stdout
    results, last = {}, None
    for text in output.splitlines():
        if match := OUTCOME.match(text):
            last = match.group(1)
            results[last] = (match.group(2), [])
        elif last and text.strip():
            results[last][1].append(text.strip())
    return results


def compare(expected, found):
    """What ext4 passes must pass, and what is excepted must fail."""
    wrong = []
    for name in deviating(expected, found):
        now, said = found.get(name, ("not run", []))
        wrong.append(f"{name}: {now}: {' '.join(said)[:300]}")
    if wrong:
        raise Broken(f"{len(wrong)} tests of pjdfstest are other than on ext4:\n" + "\n".join(wrong))


def compare_read_only(programs, expected, place):
    """The same over a mount that refuses every change, with some of the tests."""
    base = place / "base"
    base.mkdir()
    try:
        run(["mount", "--bind", base, base])
        try:
            run(["mount", "-o", "remount,bind,ro", base])
            few = {name: said for name, said in expected.items() if "rmdir" in name}
            compare(few, outcomes(programs, base, "rmdir"))
        finally:
            run(["umount", base])
    finally:
        base.rmdir()


def remounting(programs):
    """A folder with a `mount` that remounts a view by itself: the helper for FUSE would start a program for it."""
    folder = programs.work / "remount"
    folder.mkdir(exist_ok=True)
    program = folder / "mount"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("mount")} -i "$@"\n')
    program.chmod(0o755)
    return folder


@contextlib.contextmanager
def second_file_system(programs):
    """Another file system, for the tests of links and renames across them."""
    place = programs.work / "second"
    place.mkdir()
    run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=755", "tobari-suites", place])
    try:
        yield place
    finally:
        run(["umount", place])
        place.rmdir()
