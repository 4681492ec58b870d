"""Part (f): the power fails while people work in a mounted view (docs/view.md).

The view lies over a folder on a loop-mounted ext4 or XFS; several programs overwrite, append, cut, replace and remove through
it, and a model knows what each name may lead to: what was synced, or any state since. After the cut everything is mounted anew, and each
file is read through a new view. Files that were never synced may be lost, as on any file system; nothing else may.
"""

import collections
import contextlib
import errno
import mmap
import os
import pathlib
import random
import subprocess
import threading
import time

from common import Broken, content, make_image, mounted, run
from replay import apply, logged, parse
from power import check_file_system

MAGIC = b"\x89TBR\r\n\x1a\n"
MEGABYTES = 64
LARGEST = 300_000
WORKERS = 3
NAMES = ("報告.txt", "b.dat", "c.dat", "d.dat")
TEMPORARY = "~new"
# Longer than any cut is waited for; a view that does not come is a fault.
LIMIT = 60
UNREADABLE = "unreadable"
# Plaintext.
CHUNK = 16384


class File:
    """A file, whatever its name: what it may hold after a cut."""

    def __init__(self, data=b"", synced=False):
        self.states = [data]
        # Something of it survives for certain.
        self.synced = synced

    @property
    def now(self):
        """What it holds without a cut."""
        return self.states[-1]

    def became_durable(self):
        """Returned from fsync."""
        del self.states[:-1]
        self.synced = True


class Model:
    """Names of a directory, and what each may lead to: files, or None. The last one is what it is without a cut."""

    def __init__(self, found=()):
        self.names = {name: [File(data, True)] for name, data in dict(found).items()}

    def current(self, name):
        """What the name leads to now."""
        return self.names.get(name, [None])[-1]

    def leads(self, name, file):
        """From now on, if nothing happens."""
        self.names.setdefault(name, [None]).append(file)

    def became_durable(self):
        """The directory was synced."""
        self.names = {name: may[-1:] for name, may in self.names.items() if may[-1] is not None}

    def snapshot(self):
        """What may be found now: for each name its contents; whether it may be unreadable, too."""
        allowed = {}
        for name, may in self.names.items():
            states = {state for file in may if file for state in file.states}
            allowed[name] = (states, None in may, any(file and not file.synced for file in may))
        return allowed


def judge_names(where, directory, beneath, allowed):
    """Compares a directory in the view with what may be there; what was found, readable files alone, and what was not."""
    found, lost = {}, []
    listed = set(os.listdir(directory)) if directory.exists() else set()
    if strangers := listed - set(allowed):
        raise Broken(f"{where}: {sorted(strangers)} came from nowhere")
    for name, (states, may_lack, may_break) in allowed.items():
        path = directory / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = None
        except OSError as error:
            data = f"{UNREADABLE}: {error.strerror}"
        # The name of a file that was just created may be there before its envelope.
        born = isinstance(data, bytes) and (beneath / name).stat().st_size == 0
        if data is None and may_lack or isinstance(data, bytes) and data in states and not born:
            if data is not None:
                found[name] = data
        elif may_break:
            # Never synced: lost. It must not stay.
            lost.append(name)
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        else:
            what = data if data is None or isinstance(data, str) else describe(data, states)
            raise Broken(f"{where}: {name} has {what} instead of one of {len(states)} states")
    return found, lost


def describe(data, states):
    """How contents differ from the nearest state that they may have."""
    def differing(state):
        chunks = range(max(len(data), len(state)) // CHUNK + 1)
        return [at for at in chunks if data[at * CHUNK : (at + 1) * CHUNK] != state[at * CHUNK : (at + 1) * CHUNK]]

    nearest = min(states, key=lambda state: len(differing(state)), default=b"")
    return f"{len(data)} bytes, of which chunks {differing(nearest)} are not those of the nearest, {len(nearest)} bytes,"


@contextlib.contextmanager
def viewed(programs, folder):
    """A view over `folder` in a process of its own; gives the place and the process. It is killed if it does not end by itself."""
    place = programs.work / "view"
    place.mkdir(exist_ok=True)
    line = [*programs.prefix, programs.unsafe_view if programs.without else programs.view, "serve", programs.keys, folder, place]
    environment = {**os.environ, "TOBARI_TEST_ONLY_WITHOUT": programs.without} if programs.without else None
    with open(programs.work / "view.log", "wb") as log:
        server = subprocess.Popen(list(map(str, line)), env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
    try:
        if server.stdout.readline() != b"mounted\n":
            raise Broken(f"the view does not mount: {(programs.work / 'view.log').read_text(errors='replace')[-2000:]}")
        yield place, server
        server.stdin.close()
        if server.wait(LIMIT):
            raise Broken(f"the view ended with {server.returncode}")
    finally:
        gone(server, place)


def gone(server, place):
    """The program ends at once, as everything does without power."""
    server.kill()
    server.wait()
    for pipe in (server.stdin, server.stdout):
        with contextlib.suppress(OSError):
            pipe.close()
    # Whether it is mounted cannot be asked of a view that is gone.
    run(["umount", "-l", place], check=False)


class Worker:
    """One program that works in a directory of its own and keeps the model."""

    def __init__(self, directory, model, seed, mark=None):
        self.directory, self.model = directory, model
        self.chance = random.Random(seed)
        self.mark = mark or (lambda: None)
        # Who touches a mapping when the power is gone ends by a signal, and this is a thread of the suite.
        self.maps = mark is not None
        self.counts = lambda: True
        self.count, self.stopped = 0, None

    def work(self, cutting, is_over):
        """Until the power is gone, which it takes from the first error. From the start of `cutting` on no sync counts: ext4 says yes to
        one that its end overtakes."""
        self.counts = lambda: not cutting()
        while True:
            try:
                self.step()
            except OSError as error:
                self.stopped = error
                return
            if is_over():
                return

    def step(self):
        """One thing that programs do."""
        self.count += 1
        name = self.chance.choice(NAMES)
        file = self.model.current(name)
        if file is None or self.chance.random() < 0.25:
            self.replace(name)
        elif self.chance.random() < 0.1:
            self.model.leads(name, None)
            self.mark()
            os.unlink(self.directory / name)
            self.sync_directory()
        else:
            self.change(name, file)

    def replace(self, name):
        """As editors save: beside it, then the name. Sometimes without waiting for the disk, or straight into the name."""
        careful = self.chance.random() < 0.8
        data = self.chance.randbytes(self.chance.choice((0, 100, 5000, 16384, 40_000, 120_000)))
        if self.model.current(TEMPORARY):
            # Left by a cut.
            self.model.leads(TEMPORARY, None)
            self.mark()
            os.unlink(self.directory / TEMPORARY)
        file = File()
        self.model.leads(TEMPORARY, file)
        self.mark()
        descriptor = os.open(self.directory / TEMPORARY, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            self.write(descriptor, file, data, 0)
            if careful:
                self.sync(descriptor, file)
        finally:
            os.close(descriptor)
        self.model.leads(name, file)
        self.model.leads(TEMPORARY, None)
        self.mark()
        os.rename(self.directory / TEMPORARY, self.directory / name)
        if careful or self.chance.random() < 0.5:
            self.sync_directory()

    def change(self, name, file):
        """Opens it, changes it here and there, and syncs now and then."""
        descriptor = os.open(self.directory / name, os.O_RDWR)
        try:
            for _ in range(self.chance.randrange(1, 5)):
                self.one_change(descriptor, file)
                if self.chance.random() < 0.5:
                    self.sync(descriptor, file)
        finally:
            os.close(descriptor)

    def one_change(self, descriptor, file):
        """Overwrite, append, cut, extend, or write into a mapping."""
        old, way = file.now, self.chance.random()
        if way < 0.4 and old:
            offset = self.chance.randrange(len(old))
            length = self.chance.choice((1, 700, 16384, 50_000))
            self.write(descriptor, file, self.chance.randbytes(min(length, LARGEST - offset)), offset)
        elif way < 0.65:
            data = self.chance.randbytes(max(min(self.chance.choice((10, 3000, 40_000)), LARGEST - len(old)), 0))
            self.write(descriptor, file, data, len(old))
        elif way < 0.9 or not old or not self.maps:
            length = self.chance.randrange(min(2 * len(old) + 2, LARGEST))
            file.states.append(old[:length].ljust(length, b"\0"))
            self.mark()
            os.ftruncate(descriptor, length)
        else:
            at = self.chance.randrange(len(old))
            value = self.chance.randbytes(1)
            file.states.append(old[:at] + value + old[at + 1 :])
            self.mark()
            with mmap.mmap(descriptor, len(old)) as mapping:
                mapping[at : at + 1] = value
                mapping.flush()

    def write(self, descriptor, file, data, offset):
        """Small enough that the view does not seal in the middle of it, however many pieces the kernel makes of it."""
        old = file.now
        new = old[:offset].ljust(offset, b"\0") + data + old[offset + len(data) :]
        file.states.append(new)
        self.mark()
        if os.pwrite(descriptor, data, offset) != len(data):
            raise OSError(errno.EIO, "short write")

    def sync(self, descriptor, file):
        """What was written is there from now on."""
        (os.fsync if self.chance.random() < 0.7 else os.fdatasync)(descriptor)
        if self.counts():
            file.became_durable()
        self.mark()

    def sync_directory(self):
        """So are the names."""
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if self.counts():
            self.model.became_durable()
        self.mark()


def seed_directory(directory, seed):
    """Durable files to begin with; what they hold."""
    directory.mkdir(exist_ok=True)
    found = {}
    for number, name in enumerate(NAMES[:-1]):
        found[name] = content((100, 40_000, 150_000)[number], 10 * seed + number)
        with open(directory / name, "wb") as file:
            file.write(found[name])
            file.flush()
            os.fsync(file.fileno())
    return found


def cut_while_working(programs, point, models, chance, longest):
    """Works in the view until the power fails; how many steps were done."""
    workers = []
    with contextlib.ExitStack() as undo:
        place, server = undo.enter_context(viewed(programs, point / "folder"))
        # Started before anything is open: a program that starts closes what it inherits, and a close is a reason to seal.
        script = 'read now && exec xfs_io -x -c shutdown "$0"'
        switch = subprocess.Popen(["sh", "-c", script, point], stdin=subprocess.PIPE)
        for number, model in enumerate(models):
            workers.append(Worker(place / f"{number}", model, chance.random()))
        cutting, over = threading.Event(), threading.Event()
        threads = [threading.Thread(target=worker.work, args=(cutting.is_set, over.is_set)) for worker in workers]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.02, longest))
        early = [worker.stopped for worker in workers if worker.stopped]
        cutting.set()
        switch.communicate(b"now\n", timeout=LIMIT)
        # Who reads from memory alone would not notice.
        over.set()
        for thread in threads:
            thread.join()
        if switch.returncode:
            raise RuntimeError(f"the power cannot be cut: {switch.returncode}")
        undo.pop_all()
        gone(server, place)
    if early:
        raise Broken(f"before the power failed: {early}")
    return sum(worker.count for worker in workers)


def look(programs, point, where, allowed):
    """Judges everything through a new view, and that it can be worked on: what is there then, by directory."""
    plain = programs.weakened()
    found, lost = [], 0
    with viewed(plain, point / "folder") as (place, _):
        for number, names in enumerate(allowed):
            there, gone_ = judge_names(f"{where}, {number}", place / f"{number}", pathlib.Path(point, f"folder/{number}"), names)
            lost += len(gone_)
            for name in list(there)[:1]:
                (place / f"{number}" / name).write_bytes(there[name] + b"+")
                there[name] += b"+"
                if (place / f"{number}" / name).read_bytes() != there[name]:
                    raise Broken(f"{where}, {number}: {name} cannot be written any more")
            found.append(there)
    for path in (point / "folder").rglob("*"):
        if path.is_file() and ".tobari" not in path.parts and path.read_bytes()[: len(MAGIC)] != MAGIC:
            raise Broken(f"{where}: {path.name} is not sealed")
    left = [name for name in os.listdir(point / "folder/.tobari/view") if (point / "folder/.tobari/view" / name).stat().st_size]
    if left:
        raise Broken(f"{where}: journals stay: {left}")
    return found, lost


def cuts(programs, kind, count, longest=0.6, seed=0):
    """`count` cuts of one file system, one after the other: each begins with what the last one left."""
    chance = random.Random(seed)
    image = programs.work / f"view-{kind}.image"
    make_image(image, kind, MEGABYTES)
    with mounted(image, kind) as point:
        (point / "folder").mkdir()
        with viewed(programs, point / "folder") as (place, _):
            found = [seed_directory(place / f"{number}", number) for number in range(WORKERS)]
        run(["sync", "-f", point])
    steps = lost = unsynced = 0
    for number in range(count):
        models = [Model(names) for names in found]
        with mounted(image, kind) as point:
            steps += cut_while_working(programs, point, models, chance, longest)
        with mounted(image, kind) as point:
            allowed = [model.snapshot() for model in models]
            unsynced += sum(len(states) > 1 for names in allowed for states, *_ in names.values())
            found, gone_ = look(programs, point, f"{kind}, cut {number}", allowed)
            lost += gone_
            run(["sync", "-f", point])
    if not unsynced:
        raise Broken(f"{kind}: no cut came between a change and its sync; the test shows nothing")
    print(f"   {kind}: {count} cuts in {steps} steps of {WORKERS} programs; {unsynced} files were between two states, "
          f"{lost} never synced ones were lost", flush=True)
    check_file_system(image, kind)


def synced_then_cut(programs, kind, tries):
    """The power fails right after fsync returned."""
    image = programs.work / f"view-synced-{kind}.image"
    make_image(image, kind, MEGABYTES)
    with mounted(image, kind) as point:
        (point / "folder").mkdir()
        with viewed(programs.weakened(), point / "folder") as (place, _):
            found = [seed_directory(place / "0", 0)]
        run(["sync", "-f", point])
    for number in range(tries):
        model = Model(found[0])
        with mounted(image, kind) as point, contextlib.ExitStack() as undo:
            place, server = undo.enter_context(viewed(programs, point / "folder"))
            worker = Worker(place / "0", model, number)
            for name in NAMES:
                worker.replace(name)
                descriptor = os.open(place / "0" / name, os.O_RDWR)
                worker.one_change(descriptor, model.current(name))
                worker.sync(descriptor, model.current(name))
                os.close(descriptor)
            worker.sync_directory()
            run(["xfs_io", "-x", "-c", "shutdown", point])
            undo.pop_all()
            gone(server, place)
        with mounted(image, kind) as point:
            found, _ = look(programs, point, f"{kind}, cut {number} after a sync", [model.snapshot()])
            run(["sync", "-f", point])
    print(f"   {kind}: {tries} cuts right after fsync", flush=True)


def synced_by_another_then_cut(programs, kind, tries):
    """The power fails right after a program synced what another one had written and closed: the same promise."""
    image = programs.work / f"view-another-{kind}.image"
    make_image(image, kind, MEGABYTES)
    chance = random.Random(0)
    # How the second program opens the file, and what it does before it syncs: nothing, or what changes nothing.
    ways = [(os.O_RDONLY, False), (os.O_RDWR, False), (os.O_RDWR, True)]
    for number in range(tries):
        with mounted(image, kind) as point, contextlib.ExitStack() as undo:
            folder = point / "folder"
            folder.mkdir(exist_ok=True)
            place, server = undo.enter_context(viewed(programs, folder))
            (place / "0").mkdir(exist_ok=True)
            model = Model()
            for way, (flags, touches) in enumerate(ways):
                for size in (0, 5000, 120_000):
                    name = f"{number}-{way}-{size}"
                    data = chance.randbytes(size)
                    (place / "0" / name).write_bytes(data)
                    descriptor = os.open(place / "0" / name, flags)
                    if touches:
                        os.ftruncate(descriptor, size)
                    os.fdatasync(descriptor)
                    os.close(descriptor)
                    model.leads(name, File(data, True))
            model.became_durable()
            descriptor = os.open(place / "0", os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(descriptor)
            os.close(descriptor)
            run(["xfs_io", "-x", "-c", "shutdown", point])
            undo.pop_all()
            gone(server, place)
        with mounted(image, kind) as point:
            look(programs, point, f"{kind}, cut {number} after another's sync", [model.snapshot()])
            for name in model.names:
                (point / "folder/0" / name).unlink()
            run(["sync", "-f", point])
    print(f"   {kind}: {tries} cuts right after fdatasync of what others wrote", flush=True)


def record(programs, kind, steps, seed):
    """Works on a disk that logs its writes. The disk before, the log, and what may be found after each mark."""
    image, log = programs.work / f"view-replay-{kind}.image", programs.work / f"view-replay-{kind}.log"
    make_image(image, kind, 24 if kind == "ext4" else 32)
    with mounted(image, kind) as point:
        (point / "folder").mkdir()
        with viewed(programs.weakened(), point / "folder") as (place, _):
            found = seed_directory(place / "0", 0)
    base = bytearray(image.read_bytes())
    model, snapshots = Model(found), []
    with logged(programs, image, log, kind) as (point, mark):
        with viewed(programs, f"{point}/folder") as (place, _):
            def marked():
                snapshots.append(model.snapshot())
                mark(str(len(snapshots) - 1))

            marked()
            worker = Worker(pathlib.Path(place) / "0", model, seed, marked)
            for _ in range(steps):
                worker.step()
            marked()
            mark("end")
    return base, parse(log.read_bytes()), snapshots


def prefixes(programs, kind, steps, share, seed=0):
    """Judges a `share` of all prefixes of the log, and of the states without what came after the last flush."""
    chance = random.Random(seed)
    disk, log, snapshots = record(programs, kind, steps, seed)
    allowed, pending, seen = None, [], set()
    counts = collections.Counter()

    def judge_image(image, where):
        key = (hash(bytes(image)), id(allowed))
        if key in seen or chance.random() >= share:
            return
        seen.add(key)
        path = programs.work / f"view-prefix-{kind}.image"
        path.write_bytes(image)
        with mounted(path, kind) as point:
            _, lost = look(programs, point, f"{kind}, {where}", [allowed])
        counts.update(images=1, lost=lost)

    for position, (what, offset, bytes_) in enumerate(log):
        if what == "M":
            if bytes_ == b"end":
                break
            allowed = snapshots[int(bytes_)]
        elif what == "W":
            pending.append((offset, bytes_))
            counts.update(writes=1)
        else:
            for one in pending:
                apply(disk, *one)
            pending = []
            counts.update(flushes=1)
        if allowed is None:
            continue
        image = bytearray(disk)
        judge_image(image, f"flushed state at record {position}")
        for one in pending:
            apply(image, *one)
        judge_image(image, f"prefix up to record {position}")
    print(f"   {kind}: {steps} steps, {counts['writes']} writes, {counts['flushes']} flushes, {counts['images']} images "
          f"({counts['lost']} files lost that were never synced)", flush=True)
