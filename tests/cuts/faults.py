"""Parts (a) and (b): each system call of a sealing fails, or is the last one; and writes that only seem to happen."""

import collections
import re

from common import Broken, judge, lay, reported, run
from concurrent.futures import ThreadPoolExecutor

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
# Memory, time, threads and locks between them: nothing of the sealing.
IGNORED = re.compile(
    r"mmap|munmap|mremap|mprotect|madvise|brk|futex|clock_\w+|rt_sig\w+|sched_\w+|\w*nanosleep|sigaltstack|wait4|clone3?|rseq"
    r"|set_robust_list|prctl|gettid|getrandom|exit"
)
CALL = re.compile(r"(\w+)\((.*?)(?:\) += (-?\w+)| <unfinished)")
WORKERS = 4


def calls(programs, folder, case):
    """The system calls of one sealing: (name, number since the start, arguments, result). Of several threads, those that
    any of them makes: the fault comes to whichever gets there first."""
    lay(folder, case)
    trace = folder.with_suffix(".trace")
    output = programs.seal(folder, case, tracer=("strace", "-ff" if case.threads > 1 else "-f", "-o", trace))
    if reported(output) != set(case.files):
        raise Broken(f"not sealed without any fault: {output}")
    if case.threads == 1:
        return between_marks(trace.read_text(errors="replace"))
    threads = []
    for path in folder.parent.glob(f"{trace.name}.*"):
        threads.append(path.read_text(errors="replace"))
        path.unlink()
    # The first thread has the marks.
    threads.sort(key=lambda text: "/tobari-sealing-" not in text)
    if len(threads) < case.threads:
        raise RuntimeError(f"only {len(threads)} threads")
    found = {}
    for text in threads:
        marked = "/tobari-sealing-" in text
        for call in between_marks(text, inside=not marked):
            found.setdefault(call[:2], call)
    return list(found.values())


def between_marks(text, inside=False):
    """The system calls between the program's marks."""
    numbers, found = collections.Counter(), []
    for line in text.splitlines():
        match = CALL.search(line)
        if not match:
            continue
        name, arguments, result = match.groups()
        numbers[name] += 1
        if "/tobari-sealing-" in arguments:
            inside = "begins" in arguments
        elif inside and not IGNORED.fullmatch(name):
            found.append((name, numbers[name], arguments, result))
    return found


def one(programs, folder, case, call, fault):
    """One sealing with one fault, then a restart, then another sealing."""
    name, number, *_ = call
    lay(folder, case)
    output = programs.seal(folder, case, tracer=injected(call, fault))
    try:
        states = judge(programs, folder, case.files, reported(output))
        if "plain" in states.values():
            programs.weakened().seal(folder, case)
            judge(programs, folder, case.files, case.files)
    except Broken as broken:
        raise Broken(f"{case}: {name} number {number} with {fault}: {broken}") from None
    return states.values()


def shared_out(mount, tasks, work):
    """`work(folder, *task)` for each task, several at a time; all that it returned."""
    folders = [mount / f"folder-{number}" for number in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        shares = [
            pool.submit(lambda folder, share: [work(folder, *task) for task in share], folder, tasks[index::WORKERS])
            for index, folder in enumerate(folders)
        ]
        return [result for share in shares for result in share.result()]


def every(programs, mount, case, errors):
    """All calls, all faults."""
    found = calls(programs, mount / "trace", case)
    tasks = []
    for call in found:
        # In one thread dying before the next call is dying after this one. The end mark is the last.
        tasks += [(call, f"error={error}") for error in errors]
        tasks.append((call, "signal=KILL"))
    tasks.append((("exit_group", 1), "signal=KILL"))
    results = shared_out(mount, tasks, lambda folder, *task: one(programs, folder, case, *task))
    states = collections.Counter(state for result in results for state in result)
    print(f"   {case}: {len(found)} system calls, {len(tasks)} faults: afterwards {dict(states)}", flush=True)


def recovery(programs, mount, case, errors, deaths=None):
    """The process is killed after the exchange, and then each call of the recovery fails, or is its last one."""
    found = calls(programs, mount / "trace", case)
    # The calls after those that change a name.
    after = [later for call, later in zip(found, found[1:]) if call[0] in ("renameat2", "renameat", "unlinkat")]
    if deaths:
        after = [after[round(index * (len(after) - 1) / (deaths - 1))] for index in range(deaths)]

    def die(folder, death):
        lay(folder, case)
        programs.seal(folder, case, tracer=injected(death, "signal=KILL"))

    def recover(folder, *tracer):
        line, environment = programs.command("recover", programs.keys, folder)
        run([*programs.prefix, *tracer, *line], env=environment, check=False)

    def attempt(folder, death, call, fault):
        die(folder, death)
        recover(folder, *injected(call, fault))
        try:
            return judge(programs, folder, case.files).values()
        except Broken as broken:
            raise Broken(f"{case}: killed before {death[0]} {death[1]}, recovered with {fault} at {call[0]} {call[1]}: {broken}") from None

    tasks = []
    for death in after:
        trace = mount / "again.trace"
        die(mount / "again", death)
        recover(mount / "again", "strace", "-f", "-o", trace)
        for call in between_marks(trace.read_text(errors="replace")):
            tasks += [(death, call, fault) for fault in [*(f"error={error}" for error in errors), "signal=KILL"]]
    states = collections.Counter(state for result in shared_out(mount, tasks, attempt) for state in result)
    print(f"   {case}: recovery from {len(after)} deaths: {len(tasks)} faults: afterwards {dict(states)}", flush=True)


def injected(call, fault, log="/dev/null"):
    """The tracer that makes one fault at one call."""
    name, number, *_ = call
    return ("strace", "-qq", "-o", str(log), "-e", f"trace={name}", "-e", f"inject={name}:{fault}:when={number}")


def lost_writes(programs, mount, case):
    """Each write in turn says that it was done, and was not. What the disk loses, the read-back finds."""
    writes = [call for call in calls(programs, mount / "trace", case) if call[0] in ("write", "pwrite64") and call[3]]
    # A shorter result than asked for is a short write, which is done again.
    tasks = [(call, f"retval={call[3]}") for call in writes]
    shared_out(mount, tasks, lambda folder, *task: one(programs, folder, case, *task))
    print(f"   {case}: {len(writes)} writes lost in turn", flush=True)
