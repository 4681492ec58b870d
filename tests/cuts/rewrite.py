"""Other headers and other keys for sealed files (`tobari admin relabel`, `rewrap`, `reseal`, `label rotate`), cut short: the daemon,
the command line or the key server is killed at a system call that writes, the disk keeps any part of what was not yet synced.

Afterwards every reader finds the old header or the new one with the whole body, and the same command, run again, finishes.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import socket
import struct
import subprocess
import time

from common import Broken, content, must_break

# What changes a file, a name or a peer. Marks of a command's own threads are not among them.
WRITES = (
    "write,pwrite64,writev,pwritev,sendto,sendmsg,fsync,fdatasync,ftruncate,fallocate,renameat,renameat2,linkat,unlinkat,unlink"
    ",fchmod,fchown,fsetxattr,fremovexattr,utimensat"
)
# Of these the daemon makes three each for one file.
HEADER = ("pwrite64", "fdatasync")
CALL = re.compile(r"^(?:\d+ +)?(\w+)\((\d*)")
SECTOR = 512
UID = 61001
LIMIT = 60
DOWN, HOME = "公開", "社外秘"
HIDDEN = re.compile(r"\.tobari-[0-9a-f]{16}\.part")


def until(what, condition):
    """Waits for it."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited too long: {what}")
        time.sleep(0.02)


def free_address():
    """An address on which nobody listens, with a port below those that the kernel gives to clients (from 32768)."""
    for _ in range(100):
        address = ("127.0.0.1", random.randrange(20000, 32768))
        with contextlib.suppress(OSError), socket.create_server(address):
            return "%s:%d" % address
    raise RuntimeError("no free port found")


class Site:
    """A key server, a daemon that seals and opens, an administrator, and 部長, who may relabel; on a free port, in a folder."""

    def __init__(self, binaries, folder):
        self.binaries, self.folder, self.tree = binaries, folder, folder / "共有" / "部"
        self.running = {}
        self.address = free_address()

    def begin(self):
        """Makes all of it."""
        folder = self.folder
        folder.mkdir(mode=0o755)
        # Somebody else has to get there.
        folder.parent.chmod(0o711)
        (folder / "password").write_text("admin-Tobari-2026")
        said = self.run("tobari-keyserver", "init", "--data-dir", folder / "keys", "--organisation", "みほん市", "--admin", "admin",
                        "--admin-password-file", folder / "password", "--recovery-key-out", folder / "recovery",
                        "--token-out", folder / "token")
        authority = re.search(r"\b[0-9a-f]{64}\b", said).group()
        self.start("tobari-keyserver")
        self.run("tobarid", "enrol", "--server", f"https://{self.address}", "--ca-sha256", authority, "--name", "試験",
                 "--token", (folder / "token").read_text().strip(), "--state-dir", folder / "daemon")
        (folder / "tobarid.toml").write_text(
            f'state_dir = "{folder}/daemon"\nsocket = "{folder}/socket"\nroles = ["seal", "view"]\n'
        )
        self.start("tobarid")
        self.login("admin")
        for line in ("preset apply kigyo", "group add 総務部", "person add bucho --name 部長 --membership 総務部:部長 --password-stdin"):
            self.tobari("admin", "admin", *line.split(), given="bucho-Tobari-2026")
        self.login("bucho")
        self.tree.mkdir(parents=True)
        os.chown(self.tree, UID, UID)
        self.tobari("admin", "admin", "folder", "add", self.tree.parent, "--label", HOME, "--owner-group", "総務部")

    def start(self, program):
        """Starts the daemon or the key server, and waits until it answers."""
        arguments = {
            "tobarid": ("run", "--config", self.folder / "tobarid.toml"),
            "tobari-keyserver": ("serve", "--data-dir", self.folder / "keys", "--listen", self.address),
        }[program]
        with open(self.folder / f"{program}.log", "ab") as log:
            self.running[program] = subprocess.Popen(
                [self.binaries / program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment()
            )
        answers = self.listens if program == "tobari-keyserver" else lambda: self.attempt("admin", "status").returncode == 0
        ended = lambda: self.running[program].poll() is not None
        until(f"{program} to answer", lambda: ended() or answers())
        if ended():
            raise RuntimeError(f"{program} has ended: {(self.folder / f'{program}.log').read_text()[-500:]}")

    def listens(self):
        """Whether the key server does."""
        host, port = self.address.split(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False

    def restart(self):
        """Starts what died."""
        dead = [name for name, process in self.running.items() if process.poll() is not None]
        for program in sorted(dead):
            self.start(program)
        if dead:
            self.login("admin")
            self.login("bucho")

    def close(self):
        """Ends both."""
        for program in ("tobarid", "tobari-keyserver"):
            if process := self.running.pop(program, None):
                process.terminate()
                try:
                    process.wait(LIMIT)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(LIMIT)

    def environment(self, login=None):
        """Of a program."""
        more = {"XDG_STATE_HOME": str(self.state(login))} if login else {}
        return {**os.environ, "LANG": "C.UTF-8", "TOBARI_LANG": "en", "TOBARI_SOCKET": f"{self.folder}/socket", **more}

    def state(self, login):
        """The state folder of a login."""
        path = self.folder / f"state-{login}"
        if not path.is_dir():
            path.mkdir()
            if login == "bucho":
                os.chown(path, UID, UID)
        return path

    def run(self, program, *arguments):
        """A program that has to succeed; its output."""
        return checked(subprocess.run([str(self.binaries / program), *map(str, arguments)], env=self.environment(), text=True,
                                      stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False))

    def attempt(self, login, *arguments, given=None, tracer=(), text=True):
        """`tobari` as somebody; root for the administrator."""
        who = {"user": UID, "group": UID, "extra_groups": ()} if login == "bucho" else {}
        options = {"input": given} if given else {"stdin": subprocess.DEVNULL}
        return subprocess.run([*map(str, tracer), str(self.binaries / "tobari"), *map(str, arguments)], env=self.environment(login),
                              text=text, capture_output=True, timeout=LIMIT, check=False, cwd=self.folder, **options, **who)

    def tobari(self, login, *arguments, **options):
        """The same, which has to succeed; its output."""
        return checked(self.attempt(login, *arguments, **options))

    def login(self, login):
        """Logs somebody in."""
        self.tobari(login, "login", login, "--password-stdin", given=f"{login}-Tobari-2026")


def checked(result):
    """The output of what succeeded."""
    if result.returncode:
        raise RuntimeError(f"{result.args}: {result.returncode}: {result.stdout}{result.stderr}")
    return result.stdout


class Header:
    """The header of an envelope as docs/spec/envelope.md has it, without a key: the stored one, or its whole copy."""

    def __init__(self, data):
        if len(data) < 4096 or data[:8] != b"\x89TBR\r\n\x1a\n":
            raise Broken("no envelope")
        (self.size,) = struct.unpack("<I", data[12:16])
        half = (self.size - 1024) // 2
        place = data[half : self.size - 1024]
        self.pending = any(place)
        self.wire = self.stored = wire_at(data[:half])
        if place[:8] == b"\x89TBN\r\n\x1a\n" and place[12:16] == bytes(4):
            copy = place[48 : 48 + struct.unpack("<I", place[8:12])[0]]
            if hashlib.sha256(copy).digest() == place[16:48] and copy[:40] == data[:40]:
                self.wire = copy
        if self.wire is None:
            raise Broken("no whole header")
        # Whether it is authentic is for those to say who have a key; a torn one has other lengths or padding, or does not open.
        if self.wire is self.stored and any(data[len(self.wire) : half]):
            raise Broken("rubbish behind the header")

    @property
    def identity(self):
        """The file id, which only a reseal changes."""
        return self.wire[24:40]

    def has_label(self, label):
        """Whether the policy names it."""
        (length,) = struct.unpack("<I", self.wire[40:44])
        return label.encode() in self.wire[48 : 48 + length]


def wire_at(data):
    """The wire form of a header that lies there."""
    policy, recipients = struct.unpack("<II", data[40:48])
    end = 48 + policy + recipients + 32
    return data[:end] if end <= len(data) else None


@dataclasses.dataclass
class Files:
    """Sealed files: what they hold, and the envelopes that each cut begins with."""

    site: Site
    contents: dict
    before: dict = dataclasses.field(default_factory=dict)

    @property
    def paths(self):
        """Where they are."""
        return [self.site.tree / name for name in self.contents]

    def lay(self):
        """Puts them there as they were, under new inodes, and nothing else."""
        for path in self.site.tree.iterdir():
            if path.name not in self.contents:
                path.unlink()
        for name, data in self.before.items():
            new = self.site.folder / "new"
            new.write_bytes(data)
            new.chmod(0o640)
            os.chown(new, UID, UID)
            new.rename(self.site.tree / name)

    def take(self):
        """Those that are there now are what the next cuts begin with."""
        self.before = {path.name: path.read_bytes() for path in self.paths}

    def headers(self):
        """What is in force in each, without a key."""
        return {path.name: Header(path.read_bytes()) for path in self.paths}

    def judge(self, is_new):
        """Each opens to what it held, with its old header or the one that is wanted. Returns how many have the latter."""
        new = 0
        strays = {path.name for path in self.site.tree.iterdir()} - set(self.contents)
        for stray in strays:
            # Of a reseal that was killed beside its exchange; never plaintext.
            if not HIDDEN.fullmatch(stray):
                raise Broken(f"a stray name: {stray}")
            Header((self.site.tree / stray).read_bytes())
        for path, (name, data) in zip(self.paths, self.contents.items(), strict=True):
            try:
                header = Header(path.read_bytes())
            except Broken as broken:
                raise Broken(f"{name}: {broken}") from None
            if header.wire != Header(self.before[name]).wire:
                if not is_new(header):
                    raise Broken(f"{name}: neither the old header nor the new one")
                new += 1
            facts = path.stat()
            if (facts.st_uid, facts.st_mode & 0o7777, facts.st_nlink) != (UID, 0o640, 1):
                raise Broken(f"{name}: owner, mode or links")
        for path, data in zip(self.paths, self.contents.values(), strict=True):
            opened = self.site.attempt("bucho", "cat", path, text=False)
            if opened.returncode or opened.stdout != data:
                raise Broken(f"{path.name}: does not open: {opened.stderr.decode()}")
        return new


@dataclasses.dataclass
class Command:
    """What is cut."""

    name: str
    login: str
    arguments: tuple
    # Whether a header that is not the old one is the wanted one.
    is_new: object
    # Whether another run finds nothing to do; one that changes keys and no file is never done.
    ends: bool = True
    changes_files: bool = True

    def __str__(self):
        return self.name


@contextlib.contextmanager
def attached(pid, *options):
    """A tracer on all threads of a process, those to come included."""
    tracer = subprocess.Popen(["strace", "-qq", *map(str, options), "-p", str(pid)], stderr=subprocess.DEVNULL)
    try:
        def traced():
            if tracer.poll() is not None:
                raise RuntimeError("the tracer ended")
            tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
            return all(re.search(r"TracerPid:\t[1-9]", (task / "status").read_text()) for task in tasks)

        until("the tracer", traced)
        yield
    finally:
        tracer.terminate()
        try:
            tracer.wait(1)
        except subprocess.TimeoutExpired:
            # It lets go of a process whose threads are dying, and each waits for the other.
            tracer.kill()
            tracer.wait(LIMIT)


def calls(files, command, program):
    """The system calls of `program` that write during the command: (name, number in its thread), in order of their first threads."""
    site = files.site
    files.lay()
    traces = site.folder / "traces"
    shutil.rmtree(traces, ignore_errors=True)
    traces.mkdir()
    traces.chmod(0o777)
    options = ("-ff", "-o", traces / "trace", "-e", f"trace={WRITES}")
    if program == "tobari":
        site.tobari(command.login, *command.arguments, tracer=("strace", "-qq", *options))
    else:
        with attached(site.running[program].pid, *options):
            site.tobari(command.login, *command.arguments)
    found = {}
    for path in sorted(traces.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        numbers = collections.Counter()
        for line in path.read_text(errors="replace").splitlines():
            if match := CALL.match(line):
                name, descriptor = match.groups()
                numbers[name] += 1
                # What is said on standard output and error changes nothing.
                if not (name in ("write", "writev") and descriptor in ("1", "2")):
                    found.setdefault((name, numbers[name]))
    return list(found)


def cut(files, command, program, call):
    """One death: the state of the files afterwards is judged, and then the command finishes. Whether the death came."""
    site, (name, number) = files.site, call
    files.lay()
    options = ("-f", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={number}")
    if program == "tobari":
        died = site.attempt(command.login, *command.arguments, tracer=("strace", "-qq", *options)).returncode < 0
    else:
        process = site.running[program]
        with attached(process.pid, *options):
            site.attempt(command.login, *command.arguments)
        # The death comes before the answer to whoever waits for it, but is not collected then.
        died = dead(process)
    try:
        # Before anything is started that could mend it.
        files.headers()
        site.restart()
        new = files.judge(command.is_new)
        finish(files, command)
    except (Broken, RuntimeError) as broken:
        raise Broken(f"{command}: {program} killed at {name} {number}: {broken}") from None
    return died, new


def dead(process):
    """Whether it is dead or dying."""
    if process.poll() is not None:
        return True
    state = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    if state in "ZX":
        process.wait(LIMIT)
        return True
    return False


def finish(files, command):
    """The same command again, until the locks of a dead caller are gone; then all is as wanted."""
    site = files.site
    result = None

    def succeeds():
        nonlocal result
        result = site.attempt(command.login, *command.arguments)
        return result.returncode == 0

    try:
        until("the command to finish", succeeds)
    except RuntimeError:
        raise Broken(f"it does not finish when it is run again: {result.stdout}{result.stderr}") from None
    new = files.judge(command.is_new)
    if command.changes_files and new != len(files.contents):
        raise Broken(f"only {new} of {len(files.contents)} are as wanted when it is run again")
    pending = [name for name, header in files.headers().items() if header.pending]
    if pending:
        raise Broken(f"a header copy is left in {pending}")
    if command.ends:
        counts = json.loads(site.tobari(command.login, *command.arguments))
        if counts["done"] or counts["failed"]:
            raise Broken(f"there was still something to do: {counts}")


def sample(found, most):
    """At most so many, evenly."""
    if most is None or len(found) <= most:
        return found
    return [found[(2 * index + 1) * len(found) // (2 * most)] for index in range(most)]


def deaths(files, command, bounds):
    """Deaths of each program at the calls of `bounds` (program to (wanted calls, most)), and what became of the files."""
    results = collections.Counter()
    for program, (wanted, most) in bounds.items():
        found = [call for call in calls(files, command, program) if not wanted or call[0] in wanted]
        if wanted is HEADER and most:
            # What each thread does that changes a header, however the files are shared out among threads this time.
            found = [call for call in found if call[1] <= 3]
        if not found:
            raise RuntimeError(f"{command}: {program} does nothing of {wanted}")
        for call in sample(found, most):
            died, new = cut(files, command, program, call)
            results["deaths" if died else "runs to the end"] += 1
            results["files with the new header"] += new
            results["files with the old one"] += len(files.contents) - new
    print(f"   {command}: {dict(results)}", flush=True)
    if not results["deaths"]:
        raise RuntimeError(f"{command}: nothing was cut")


def recorded(files, command):
    """What the daemon writes to one sealed file, between syncs: lists of (offset, bytes)."""
    site, trace = files.site, files.site.folder / "writes"
    files.lay()
    options = ("-f", "-o", trace, "-e", "trace=pwrite64,fdatasync", "-s", 1 << 17, "-xx")
    with attached(site.running["tobarid"].pid, *options):
        site.tobari(command.login, *command.arguments)
    epochs = [[]]
    for line in trace.read_text().splitlines():
        if match := re.search(r'pwrite64\(\d+, "((?:\\x..)*)", (\d+), (\d+)\) += (\d+)', line):
            data = bytes.fromhex(match[1].replace("\\x", ""))
            if len(data) != int(match[2]) or len(data) != int(match[4]):
                raise RuntimeError(f"a write that is not whole: {line[-60:]}")
            epochs[-1].append((int(match[3]), data))
        elif "fdatasync" in line:
            epochs.append([])
    return [epoch for epoch in epochs if epoch]


def torn(files, command, synced=True, damage=b""):
    """The power fails: of the writes since the last sync any sectors are on the disk. Each of these files is read, and then the
    command finishes. Without `synced` no sync was one; `damage` is written over the header copy."""
    site, (name, old) = files.site, next(iter(files.before.items()))
    epochs = recorded(Files(site, {name: files.contents[name]}, {name: old}), command)
    if not synced:
        epochs = [[write for epoch in epochs for write in epoch]]
    states, data = {old}, bytearray(old)
    for epoch in epochs:
        sectors = [(at + skip, write[skip : skip + SECTOR]) for at, write in epoch for skip in range(0, len(write), SECTOR)]
        every = range(1 << len(sectors)) if len(sectors) <= 5 else random.Random(1).sample(range(1 << len(sectors)), 48)
        for chosen in every:
            state = bytearray(data)
            for number, (at, sector) in enumerate(sectors):
                if chosen >> number & 1:
                    state[at : at + len(sector)] = sector
            half = (Header(old).size - 1024) // 2
            if any(state[half : half + len(damage)]):
                state[half : half + len(damage)] = damage
            states.add(bytes(state))
        for at, write in epoch:
            data[at : at + len(write)] = write
    contents = {f"{number}.txt": files.contents[name] for number in range(len(states))}
    all_torn = Files(site, contents, dict(zip(contents, sorted(states))))
    all_torn.lay()
    headers = all_torn.headers()
    first = Header(old).wire
    # Judged by the header before the change.
    all_torn.before = dict.fromkeys(contents, old)
    new = all_torn.judge(command.is_new)
    finish(all_torn, command)
    pending = sum(header.pending for header in headers.values())
    old_ones = sum(header.wire == first for header in headers.values())
    print(f"   {command}: {len(states)} states after a power cut, {pending} of them in the middle: "
          f"{old_ones} old headers, {new} new ones", flush=True)


def rewrites(programs, long):
    """All of it."""
    with contextlib.ExitStack() as ends:
        site = Site(programs.binaries, programs.work / "site")
        ends.callback(site.close)
        site.begin()
        contents = {f"{number}.txt": content(size, number) for number, size in enumerate((5000, 0, 300_000))}
        files = Files(site, contents)
        for path, data in zip(files.paths, contents.values(), strict=True):
            path.write_bytes(data)
            path.chmod(0o640)
            os.chown(path, UID, UID)
        sealed = lambda path: path.read_bytes()[:8] == b"\x89TBR\r\n\x1a\n"
        until("the files to be sealed", lambda: all(map(sealed, files.paths)))
        files.take()
        most = (lambda _: None) if long else (lambda number: number)

        tree = str(site.tree)
        relabel = Command("relabel", "bucho", ("admin", "relabel", "--json", "--label", DOWN, tree), lambda new: new.has_label(DOWN))
        torn(files, relabel)
        must_break("syncs of the header", torn, files, relabel, False)
        must_break("the header copy", torn, files, relabel, True, b"torn")
        deaths(files, relabel, {"tobarid": (HEADER, most(6)), "tobari": ((), most(2)), "tobari-keyserver": ((), most(2))})
        if long:
            deaths(files, relabel, {"tobarid": ((), None)})

        rotate = Command("label rotate", "admin", ("admin", "label", "rotate", HOME, "--json"), lambda _: False, False, False)
        deaths(files, rotate, {"tobari-keyserver": ((), most(4)), "tobarid": ((), most(1)), "tobari": ((), most(1))})

        rewrap = Command("rewrap", "bucho", ("admin", "rewrap", "--json", tree), lambda new: new.has_label(HOME))
        torn(files, rewrap)
        deaths(files, rewrap, {"tobarid": (HEADER, most(4)), "tobari": ((), most(1)), "tobari-keyserver": ((), most(1))})

        old = {Header(data).identity for data in files.before.values()}
        reseal = Command("reseal", "bucho", ("admin", "reseal", "--json", tree), lambda new: new.identity not in old, ends=False)
        names = ("fsync", "renameat2", "linkat", "unlinkat", "fchown", "fchmod", "utimensat")
        deaths(files, reseal, {"tobarid": (("write", "pwrite64", "fsync"), most(2)), "tobari": (names, most(7)),
                               "tobari-keyserver": ((), most(1))})
