"""What all parts of the crash suite share: the programs, images, the file that is sealed, and the judgement."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import random
import shlex
import shutil
import stat
import struct
import subprocess
import tempfile

CONTROL = ".tobari"
NAME = "部/名簿.csv"
UID, GID, MODE = 61001, 61002, 0o640
# Runs the program with `wipe = "overwrite"`.
OVERWRITE = ("env", "TOBARI_TEST_OVERWRITE=1")
# Every sync says that it was done, and was not. `eatmydata` does that for programs that sync by the C library alone; here most
# syncs are system calls of the program's own.
SYNCS = "fsync,fdatasync,syncfs,sync_file_range"
EATEN = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={SYNCS}", "-e", f"inject={SYNCS}:retval=0")
MODIFIED = 1_600_000_000_123_456_789
# user::rw-, user:61003:r--, group::r--, mask::r--, other::---
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, who)
    for tag, rights, who in ((1, 6, 2**32 - 1), (2, 4, 61003), (4, 4, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1))
)
ATTRIBUTES = {"user.comment": "注意".encode(), "system.posix_acl_access": ACL}


# Kept by the system: labels of a security module, and XFS's second name for the list above.
FOREIGN = ("security.", "trusted.SGI_ACL_")


class Broken(Exception):
    """A promise of docs/spec/sealing.md does not hold."""


def content(size, seed=0):
    """Bytes that do not compress and are the same in each run."""
    return random.Random(seed).randbytes(size)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is sealed in one run of the program, and by which path through the sealer."""

    name: str
    # Name to content.
    files: dict
    grouped: bool = False
    threads: int = 1

    def __str__(self):
        return self.name


def single(size=5000):
    """One file."""
    return Case("one file", {NAME: content(size)})


def group(*sizes):
    """Several files as a group, in two directories."""
    sizes = sizes or (5000, 0, 70_000)
    return Case("a group", {f"{'部課'[number % 2]}/{number}.txt": content(size, number) for number, size in enumerate(sizes)}, True)


def large(size=2_500_000):
    """A file that several threads work on."""
    return Case("a large file", {NAME: content(size, 9)}, threads=3)


@dataclasses.dataclass
class Programs:
    """The programs under test, and where the suite works."""

    program: pathlib.Path
    unsafe: pathlib.Path
    block_log: pathlib.Path
    # The mounted view, and the same with switches that leave safeguards out.
    view: pathlib.Path
    unsafe_view: pathlib.Path
    # Where the key server, the daemon and the command line are.
    binaries: pathlib.Path
    work: pathlib.Path
    keys: pathlib.Path
    without: str = ""
    prefix: tuple = ()

    def weakened(self, without="", prefix=()):
        """The same with a safeguard left out."""
        return dataclasses.replace(self, without=without, prefix=tuple(prefix))

    def command(self, *arguments):
        """The command line of the sealing program and its environment."""
        program = self.unsafe if self.without else self.program
        environment = {**os.environ, "TOBARI_TEST_ONLY_WITHOUT": self.without} if self.without else None
        return [str(program), *map(str, arguments)], environment

    def sealing(self, folder, case, tracer=()):
        """The command line that seals `case`, under `tracer`, and its environment."""
        line, environment = self.command("group" if case.grouped else "seal", self.keys, folder, *case.files)
        if case.threads > 1:
            # The tracer comes to the process, so that calls are counted from there on and not from the loader on.
            environment = {**(environment or os.environ), "TOBARI_TEST_THREADS": str(case.threads)}
            if tracer:
                environment["TOBARI_TEST_TRACER"] = shlex.join(map(str, [*tracer, "-f"]))
            tracer = ()
        return [*self.prefix, *tracer, *line], environment

    def seal(self, folder, case, tracer=()):
        """Seals `case`; the output. It may fail or die."""
        line, environment = self.sealing(folder, case, tracer)
        return run(line, env=environment, check=False).stdout


def run(line, check=True, **options):
    """Runs a program to its end; it must not hang."""
    result = subprocess.run(
        [str(part) for part in line], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600,
        check=False, **options,
    )
    if check and result.returncode:
        raise RuntimeError(f"{line}: {result.returncode}: {result.stderr}")
    return result


def write_file(folder, name, data):
    """A user's file with everything that has to survive."""
    path = pathlib.Path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    for key, value in ATTRIBUTES.items():
        os.setxattr(path, key, value)
    os.chown(path, UID, GID)
    os.chmod(path, MODE)
    os.utime(path, ns=(MODIFIED, MODIFIED))
    return path


def lay(folder, case):
    """A folder with the files of `case` alone."""
    shutil.rmtree(folder, ignore_errors=True)
    pathlib.Path(folder).mkdir()
    for name, data in case.files.items():
        write_file(folder, name, data)


def judge(programs, folder, files, sealed=()):
    """Restarts, then looks: each of `files` (name to content) is its old plaintext or a whole envelope, metadata kept, no
    other name, an empty journal; those of `sealed` are envelopes. Returns the states."""
    plain = programs.weakened()
    recovered = run(plain.command("recover", programs.keys, folder)[0], check=False)
    if recovered.returncode:
        raise Broken(f"recovery failed: {recovered.stderr}")
    journal = os.listdir(pathlib.Path(folder, CONTROL))
    if journal:
        raise Broken(f"journal not empty: {journal}")
    paths = [pathlib.Path(folder, name) for name in files]
    found = {path for path in pathlib.Path(folder).rglob("*") if path.is_file() and CONTROL not in path.parts}
    if found != set(paths):
        raise Broken(f"names: {sorted(map(str, found))}")
    lines = run(plain.command("show", programs.keys, *paths)[0]).stdout.splitlines()
    states = {}
    for path, line, (name, data) in zip(paths, lines, files.items(), strict=True):
        state, _, sum_ = line.partition(" ")
        if state not in ("plain", "sealed") or sum_ != hashlib.sha256(data).hexdigest():
            raise Broken(f"{name}: {line}")
        if name in sealed and state != "sealed":
            raise Broken(f"{name} was reported as sealed, and is plaintext again")
        facts = path.stat()
        metadata = (stat.S_IMODE(facts.st_mode), facts.st_uid, facts.st_gid, facts.st_mtime_ns, facts.st_nlink)
        if metadata != (MODE, UID, GID, MODIFIED, 1):
            raise Broken(f"{name}: {state} with metadata {metadata}")
        attributes = {key: os.getxattr(path, key) for key in os.listxattr(path) if not key.startswith(FOREIGN)}
        if attributes != ATTRIBUTES:
            raise Broken(f"{name}: {state} with attributes {sorted(attributes)}")
        states[name] = state
    return states


def reported(output):
    """The names of which the program said that they are sealed."""
    return {line.removeprefix("sealed ") for line in output.splitlines() if line.startswith("sealed ")}


def make_image(path, kind, megabytes=32):
    """A new file system in a file."""
    with open(path, "wb") as image:
        image.truncate(megabytes << 20)
    if kind == "ext4":
        run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0", path])
    else:
        run(["mkfs.xfs", "-q", "-f", "--unsupported", path])


@contextlib.contextmanager
def mounted(image, kind):
    """The file system in `image`, which may be a loop device's own file, mounted; unmounted afterwards."""
    point = tempfile.mkdtemp(prefix="tobari-cuts-")
    try:
        run(["mount", "-t", kind, "-o", "loop", image, point])
        try:
            yield pathlib.Path(point)
        finally:
            run(["umount", point])
    finally:
        os.rmdir(point)


def must_break(what, part, *arguments):
    """A negative control: `part` has to notice."""
    try:
        part(*arguments)
    except Broken as noticed:
        print(f"   control: without {what}: noticed ({noticed})", flush=True)
    else:
        raise SystemExit(f"FAILED: nothing noticed that {what} was left out")
