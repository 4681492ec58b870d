"""What the suites share: images, the view over a folder, and how a promise that does not hold is said."""

import contextlib
import dataclasses
import os
import pathlib
import select
import subprocess
import time

MAGIC = b"\x89TBR\r\n\x1a\n"
# Seconds. Nothing here takes a tenth of it on an idle machine.
LIMIT = 600


class Broken(Exception):
    """A promise of docs/view.md does not hold."""


@dataclasses.dataclass
class Programs:
    """The programs under test and those that test, and where the suites work."""

    mount: pathlib.Path
    bin: pathlib.Path
    work: pathlib.Path

    @property
    def keys(self):
        """The keys of this run."""
        return self.work / "keys"


def run(line, check=True, **options):
    """Runs a program to its end; it must not hang."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": LIMIT, **options}
    result = subprocess.run([str(part) for part in line], check=False, **options)
    if check and result.returncode:
        raise RuntimeError(f"{line}: {result.returncode}: {result.stdout}")
    return result


@contextlib.contextmanager
def image(work, name, mebibytes=512):
    """An empty ext4 on a loop device; it must be clean afterwards."""
    file, mount = work / f"{name}.image", work / name
    with open(file, "wb") as handle:
        handle.truncate(mebibytes << 20)
    run(["mkfs.ext4", "-q", "-F", file])
    mount.mkdir()
    run(["mount", "-o", "loop", file, mount])
    try:
        yield mount
    finally:
        run(["umount", mount])
    run(["e2fsck", "-f", "-n", file])
    file.unlink()
    mount.rmdir()


@contextlib.contextmanager
def view(programs, folder, prefix=()):
    """The view over `folder`, mounted beside it by the program that serves it, which must end well."""
    place = programs.work / "view"
    place.mkdir(exist_ok=True)
    line = [*prefix, programs.mount, "serve", programs.keys, folder, place]
    # Its log is a file: nobody reads a pipe while a suite runs.
    with open(programs.work / "view.log", "ab") as log:
        server = subprocess.Popen([str(part) for part in line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        try:
            ready, _, _ = select.select([server.stdout], [], [], LIMIT)
            if not ready or server.stdout.readline() != b"mounted\n":
                raise Broken(f"the view does not mount:\n{tail(programs.work / 'view.log')}")
            yield place
        finally:
            # Its end of input asks it to unmount and to seal what is dirty.
            server.stdin.close()
            try:
                status = server.wait(LIMIT)
            except subprocess.TimeoutExpired:
                server.kill()
                status = server.wait()
            server.stdout.close()
            if os.path.ismount(place):
                run(["umount", "-l", place])
                status = status or "still mounted"
    if status:
        raise Broken(f"the view ended with {status}:\n{tail(programs.work / 'view.log')}")


def tail(path, lines=30):
    """The last lines of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def must_break(what, trial, *arguments):
    """Runs `trial` with something wrong underneath: a suite that does not notice shows nothing."""
    try:
        trial(*arguments)
    except Broken as reason:
        print(f"  with {what} it breaks: {str(reason).splitlines()[0]}", flush=True)
    else:
        raise Broken(f"with {what} nothing breaks")


@contextlib.contextmanager
def step(name):
    """Names a step and says how long it took."""
    start = time.monotonic()
    print(f"{name}", flush=True)
    yield
    print(f"  {time.monotonic() - start:.0f} s", flush=True)
