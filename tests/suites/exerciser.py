"""fsx: random operations on a file, each read compared with what it must be. The same operations on ext4 make the same file, so that
what is on the disk after an unmount is compared too."""

import hashlib
import pathlib
import shutil

from common import MAGIC, Broken, image, must_break, run, view

CHUNK = 16384
WEIGHTS = """
[weights]
close_open = 2
invalidate = 2
mapread = 10
mapwrite = 10
read = 10
write = 10
truncate = 10
fsync = 1
fdatasync = 1
posix_fallocate = 2
punch_hole = 2
sendfile = 2
posix_fadvise = 4
copy_file_range = 2
"""
# Name to the file's largest length and the operations' shortest and longest. The chunk's borders, one more and one less; changes inside a chunk;
# whatever comes.
SHAPES = {
    "any": (16 * CHUNK, 0, 65536),
    "border": (5 * CHUNK + 1, CHUNK - 1, CHUNK + 1),
    "inside": (3 * CHUNK - 1, 1, 300),
    "large": (256 * CHUNK + 5, 0, 20 * CHUNK),
}


def suite(programs, long):
    """All shapes with several seeds, and the same with something wrong underneath."""
    operations, seeds = (100_000, 20) if long else (1_500, 3)
    with image(programs.work, "ext4", 1024) as native, image(programs.work, "under", 1024) as under:
        for shape in SHAPES:
            trial(programs, native, under, shape, range(1, seeds + 1), operations)
        few = (programs, native, under, "any", (1, 2), 150)
        must_break("lost truncations", trial, *few, lost("ftruncate"))
        must_break("two files exchanged while it was not mounted", trial, *few, (), exchange)
    print(f"  fsx: {len(SHAPES)} shapes, {seeds} seeds, {operations} operations each")


def trial(programs, native, under, shape, seeds, operations, prefix=(), meddle=lambda folder: None):
    """Runs fsx on ext4 and in the view, mounts the view again, and compares."""
    folder = under / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    names = {seed: f"{shape}-{seed}" for seed in seeds}
    for seed, name in names.items():
        exercise(programs, native / name, shape, seed, operations)
    with view(programs, folder, prefix) as place:
        for seed, name in names.items():
            exercise(programs, place / name, shape, seed, operations)
    meddle(folder)
    with view(programs, folder) as place:
        for name in names.values():
            compare(native / name, place / name)
            with open(folder / name, "rb") as handle:
                if handle.read(len(MAGIC)) != MAGIC:
                    raise Broken(f"{name} is not sealed on the disk")


def exercise(programs, file, shape, seed, operations):
    """One run of fsx; all its operations must have been done."""
    length, shortest, longest = SHAPES[shape]
    configuration = programs.work / "fsx.toml"
    configuration.write_text(f"flen = {length}\n[opsize]\nmin = {shortest}\nmax = {longest}\n{WEIGHTS}")
    line = [programs.bin / "fsx", "-N", operations, "-S", seed, "-f", configuration, "-P", programs.work, file]
    result = run(line, check=False)
    if result.returncode or "All operations completed" not in result.stdout:
        said = "\n".join(result.stdout.splitlines()[-20:])
        raise Broken(f"fsx, {shape}, seed {seed}: status {result.returncode}\n{said}")


def compare(expected, found):
    """Both files are the same, of the same length by their attributes too."""
    try:
        same = found.stat().st_size == expected.stat().st_size and digest(found) == digest(expected)
    except OSError as error:
        raise Broken(f"{found.name} cannot be read after the next mount: {error}") from error
    if not same:
        raise Broken(f"{found.name} is not what ext4 has after the next mount")


def digest(path):
    """SHA-256 of a file."""
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def lost(call):
    """Runs the view so that each such system call says that it was done, and was not."""
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:retval=0")


def exchange(folder):
    """Each file under the other's name: both are authentic, and wrong."""
    first, second, *_ = sorted(path for path in folder.iterdir() if path.is_file())
    spare = folder / "spare"
    first.rename(spare)
    second.rename(first)
    spare.rename(second)
