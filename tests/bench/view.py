"""What tests/bench/view.sh measures, and how. Each round gives each target a new image; a cache is made cold by unmounting all of it."""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

MEBIBYTE = 1 << 20
PAGE = 4096
RANDOM_OPERATIONS = 10_000
SMALL_WRITES = 64 * MEBIBYTE
TREE_FILES = 4_000
TREE_BYTES = 80 * MEBIBYTE
SOURCES = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo")) / "registry" / "src"
# Row to the speed that is wanted, where gocryptfs is 1.
GOALS = {
    "write": 1.4, "read, cold": 1.2, "read, warm": 4, "random read": 1.2, "random write": 1.2, "create": 1.1, "ls -lR, cold": 1.3,
    "ls -lR, warm": 4, "untar": 1.4, "rm -rf": 1.1,
}


class Target:
    """A file system over an ext4 image in memory: `place` is where to work."""

    name = "ext4"

    def __init__(self, work):
        self.work = work / self.name
        self.work.mkdir()
        self.image, self.below = self.work / "image", self.work / "below"
        self.below.mkdir()
        self.stack = contextlib.ExitStack()
        self.folder = self.place = self.below / "folder"

    def __enter__(self):
        with open(self.image, "wb") as handle:
            handle.truncate(4 << 30)
        run("mkfs.ext4", "-q", "-F", self.image)
        self.mount_below()
        self.folder.mkdir()
        self.make()
        self.mount()
        return self

    def __exit__(self, *_):
        self.stack.close()
        shutil.rmtree(self.work)

    def mount_below(self):
        run("mount", "-o", "loop", self.image, self.below)
        self.stack.callback(run, "umount", self.below)

    def make(self):
        """Once for each image."""

    def mount(self):
        """Over the mounted image; what it puts on the stack unmounts."""

    def cold(self):
        """Nothing of this target is in a cache."""
        self.stack.close()
        self.mount_below()
        self.mount()


class Gocryptfs(Target):
    """Debian's, as it comes."""

    name = "gocryptfs"

    def make(self):
        self.password = self.work / "password"
        self.password.write_text("password\n")
        self.place = self.work / "above"
        self.place.mkdir()
        run("gocryptfs", "-q", "-init", "-passfile", self.password, self.folder)

    def mount(self):
        line = ["gocryptfs", "-q", "-fg", "-passfile", self.password, self.folder, self.place]
        server = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        # What was put on a stack first is done last.
        self.stack.callback(server.wait, 120)
        until = time.monotonic() + 60
        while not self.place.is_mount():
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError("gocryptfs does not mount")
            time.sleep(0.01)
        self.stack.callback(run, "umount", self.place)


class View(Target):
    """The shipped code of the view, with keys of its own instead of a key server."""

    name = "view"
    program: pathlib.Path

    def make(self):
        self.keys = self.work / "keys"
        self.keys.mkdir()
        run(self.program, "keys", self.keys)
        self.place = self.work / "above"
        self.place.mkdir()

    def mount(self):
        line = [self.program, "serve", self.keys, self.folder, self.place]
        server = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.stack.callback(self.end, server)
        if server.stdout.readline() != b"mounted\n":
            raise RuntimeError("the view does not mount")

    def end(self, server):
        """Its end of input asks it to unmount."""
        server.stdin.close()
        if server.wait(120):
            raise RuntimeError("the view ended badly")
        server.stdout.close()


def run(*line):
    """Runs a program that must succeed."""
    subprocess.run([str(part) for part in line], check=True, stdout=subprocess.DEVNULL)


class Round:
    """One target measured once: row to seconds."""

    def __init__(self, target, arguments, tree):
        self.target, self.arguments, self.tree = target, arguments, tree
        self.seconds = {}

    def wants(self, *rows):
        return not self.arguments.rows or any(part in row for part in self.arguments.rows for row in rows)

    def measure(self, row, action, *rest):
        """Times one action."""
        if not self.wants(row):
            return
        start = time.perf_counter()
        action(*rest)
        self.seconds[row] = time.perf_counter() - start

    def run(self):
        """All rows, in an order in which each finds what it needs."""
        self.large()
        self.small_writes()
        self.many()
        self.sources()
        return self.seconds

    def large(self):
        rows = ("write", "read, cold", "read, warm", "random read", "random write")
        if not self.wants(*rows):
            return
        target, file = self.target, self.target.place / "large"
        # The whole way to the disk, written by blocks of 1 MiB.
        start = time.perf_counter()
        write(file, self.arguments.size * MEBIBYTE, MEBIBYTE)
        self.seconds["write"] = time.perf_counter() - start
        if self.wants("read, cold", "read, warm"):
            target.cold()
            self.measure("read, cold", read, file)
            self.measure("read, warm", read, file)
        if self.wants("random read"):
            target.cold()
            self.measure("random read", random_reads, file)
        if self.wants("random write"):
            target.cold()
            self.measure("random write", random_writes, file)
        if not self.wants("write"):
            del self.seconds["write"]
        file.unlink()

    def small_writes(self):
        for name, size in (("4 KiB", 4096), ("16 KiB", 16384), ("64 KiB", 65536), ("1 MiB", MEBIBYTE)):
            file = self.target.place / "small"
            self.measure(f"writes of {name}", write, file, SMALL_WRITES, size)
            file.unlink(missing_ok=True)

    def many(self):
        if not self.wants("create", "ls -lR, cold", "ls -lR, warm", "open, read, close", "rm -rf"):
            return
        folder = self.target.place / "many"
        start = time.perf_counter()
        create(folder, self.arguments.files)
        self.seconds["create"] = time.perf_counter() - start
        self.target.cold()
        self.measure("ls -lR, cold", run, "ls", "-lR", self.target.place)
        self.measure("ls -lR, warm", run, "ls", "-lR", self.target.place)
        self.measure("open, read, close: first", visit, folder)
        self.measure("open, read, close: again", visit, folder)
        self.measure("rm -rf", run, "rm", "-rf", folder)

    def sources(self):
        if not self.wants("untar", "find and cat", "rm -rf of the tree"):
            return
        folder = self.target.place / "tree"
        folder.mkdir()
        start = time.perf_counter()
        run("tar", "-xf", self.tree, "-C", folder)
        self.seconds["untar"] = time.perf_counter() - start
        self.target.cold()
        self.measure("find and cat, cold", run, "sh", "-c", f"find {folder} -type f -print0 | xargs -0 cat")
        self.measure("rm -rf of the tree", run, "rm", "-rf", folder)


def write(file, length, block):
    """Sequentially, then fsync."""
    data = random.Random(1).randbytes(block)
    handle = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    for _ in range(length // block):
        os.write(handle, data)
    os.fsync(handle)
    os.close(handle)


def read(file):
    """Sequentially."""
    buffer = bytearray(MEBIBYTE)
    with open(file, "rb", buffering=0) as handle:
        while handle.readinto(buffer):
            pass


def offsets(file):
    """The same places in each run."""
    pages = file.stat().st_size // PAGE
    chooser = random.Random(2)
    return [chooser.randrange(pages) * PAGE for _ in range(RANDOM_OPERATIONS)]


def random_reads(file):
    """4 KiB each."""
    handle = os.open(file, os.O_RDONLY)
    for offset in offsets(file):
        os.pread(handle, PAGE, offset)
    os.close(handle)


def random_writes(file):
    """4 KiB each, then fsync."""
    data = random.Random(3).randbytes(PAGE)
    handle = os.open(file, os.O_WRONLY)
    for offset in offsets(file):
        os.pwrite(handle, data, offset)
    os.fsync(handle)
    os.close(handle)


def create(folder, files):
    """Files of 4 KiB, a hundred in each folder, without fsync."""
    data = random.Random(4).randbytes(PAGE)
    for number in range(files):
        inner = folder / str(number // 100)
        if number % 100 == 0:
            inner.mkdir(parents=True)
        handle = os.open(inner / str(number), os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        os.write(handle, data)
        os.close(handle)


def visit(folder):
    """Opens, reads and closes each file."""
    for inner in sorted(folder.iterdir()):
        for file in sorted(inner.iterdir()):
            handle = os.open(file, os.O_RDONLY)
            os.read(handle, PAGE)
            os.close(handle)


def source_tree(work):
    """A tar file of sources of Rust packages, the same for all: by name, until there are enough."""
    packages, files, size = [], 0, 0
    for package in sorted(path for path in SOURCES.glob("*/*") if path.is_dir()):
        inside = [path for path in package.rglob("*") if path.is_file()]
        if len(inside) > 800:
            continue
        packages.append(package)
        files, size = files + len(inside), size + sum(path.stat().st_size for path in inside)
        if files >= TREE_FILES or size >= TREE_BYTES:
            break
    tree = work / "tree.tar"
    lines = [part for package in packages for part in ("-C", str(package.parent), package.name)]
    run("tar", "-cf", tree, "--no-same-owner", *lines)
    return tree, files, size


def quantity(row, seconds, arguments):
    """A row's number as people say it."""
    if row in ("write", "read, cold", "read, warm"):
        return f"{arguments.size / seconds:.0f} MiB/s"
    if row.startswith("writes of"):
        return f"{SMALL_WRITES / MEBIBYTE / seconds:.0f} MiB/s"
    if row.startswith("random"):
        return f"{RANDOM_OPERATIONS / seconds:.0f} /s"
    if row.startswith("open"):
        return f"{seconds / arguments.files * 1e6:.0f} µs"
    if row == "create":
        return f"{arguments.files / seconds:.0f} files/s"
    return f"{seconds:.2f} s"


def table(results, arguments):
    """Medians, and how many times as fast the view is."""
    print("| | ext4 | gocryptfs | view | view / gocryptfs | lowest, highest | goal |")
    print("|---|---|---|---|---|---|---|")
    for row in results[0]["view"]:
        medians = {name: statistics.median(each[name][row] for each in results) for name in ("ext4", "gocryptfs", "view")}
        ratios = sorted(each["gocryptfs"][row] / each["view"][row] for each in results)
        ratio, goal = statistics.median(ratios), GOALS.get(row)
        verdict = "" if goal is None else f"{goal} ×" if ratio >= goal else f"{goal} ×: **missed**"
        cells = [quantity(row, medians[name], arguments) for name in medians]
        print("|", " | ".join([row, *cells, f"{ratio:.2f} ×", f"{ratios[0]:.2f}, {ratios[-1]:.2f}", verdict]), "|")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mount", type=pathlib.Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("rows", nargs="*")
    arguments = parser.parse_args()
    View.program = arguments.mount
    results, loads = [], []
    with tempfile.TemporaryDirectory(prefix="tobari-bench-view-") as outer:
        work = pathlib.Path(outer)
        run("mount", "-t", "tmpfs", "-o", "size=12g,mode=700", "tobari-bench", work)
        try:
            tree, files, size = source_tree(work)
            kinds = [Target, Gocryptfs, View]
            for number in range(arguments.rounds):
                loads.append(os.getloadavg()[0])
                each = {}
                for kind in kinds[number % 3 :] + kinds[: number % 3]:
                    with kind(work) as target:
                        each[kind.name] = Round(target, arguments, tree).run()
                results.append(each)
                print(f"round {number + 1} of {arguments.rounds} done", file=sys.stderr)
        finally:
            run("umount", work)
    table(results, arguments)
    print(f"\n{arguments.rounds} rounds, load before each: {', '.join(f'{load:.1f}' for load in loads)}; {arguments.size} MiB;", end=" ")
    print(f"{RANDOM_OPERATIONS} random accesses; {arguments.files} files of 4 KiB; source tree of {files} files, {size / MEBIBYTE:.0f} MiB.")


if __name__ == "__main__":
    main()
