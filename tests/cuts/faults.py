"""Parts (a) and (b): each system call of one sealing fails, or is the last one; and writes that only seem to happen."""

import collections
import os
import re

from common import MODIFIED, NAME, Broken, clear, content, judge, reported, run, write_file
from concurrent.futures import ThreadPoolExecutor

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EINTR")
# Memory, time and locks between threads: nothing of the sealing.
IGNORED = re.compile(r"mmap|munmap|mremap|mprotect|madvise|brk|futex|clock_\w+|rt_sig\w+|sched_\w+|\w*nanosleep|sigaltstack")
CALL = re.compile(r"(\w+)\((.*)\) += (-?\w+)")


def calls(programs, folder, size):
    """The system calls of one sealing: (name, number since the start, arguments, result)."""
    clear(folder)
    write_file(folder, data=content(size))
    trace = folder.with_suffix(".trace")
    output = programs.seal_once(folder, NAME, tracer=("strace", "-o", trace))
    if NAME not in reported(output):
        raise Broken(f"not sealed without any fault: {output}")
    return between_marks(trace)


def between_marks(trace):
    """The system calls between the program's marks."""
    numbers, inside, found = collections.Counter(), False, []
    for line in trace.read_text(errors="replace").splitlines():
        match = CALL.match(line)
        if not match:
            continue
        name, arguments, result = match.groups()
        numbers[name] += 1
        if "/tobari-sealing-" in arguments:
            inside = "begins" in arguments
        elif inside and not IGNORED.fullmatch(name):
            found.append((name, numbers[name], arguments, result))
    return found


def one(programs, folder, size, call, fault):
    """One sealing with one fault, then a restart, then another sealing."""
    name, number, *_ = call
    data = content(size)
    clear(folder)
    write_file(folder, data=data)
    output = programs.seal_once(folder, NAME, tracer=injected(call, fault))
    try:
        state = judge(programs, folder, {NAME: data}, reported(output))[NAME]
        programs.weakened().seal_once(folder, NAME)
        judge(programs, folder, {NAME: data}, {NAME})
    except Broken as broken:
        raise Broken(f"{name} number {number} with {fault}: {broken}") from None
    return state


def every(programs, mount, sizes, errors, workers=4):
    """All calls, all faults."""
    tasks = []
    for size in sizes:
        found = calls(programs, mount / "trace", size)
        print(f"   {size} bytes: {len(found)} system calls in a sealing", flush=True)
        for call in found:
            # The process has one thread: dying before the next call is dying after this one. The end mark is the last.
            tasks += [(size, call, f"error={error}") for error in errors]
            tasks.append((size, call, "signal=KILL"))
        tasks.append((size, ("exit_group", 1), "signal=KILL"))
    folders = [mount / f"folder-{number}" for number in range(workers)]
    with ThreadPoolExecutor(workers) as pool:
        shares = [
            pool.submit(lambda folder, share: [one(programs, folder, *task) for task in share], folder, tasks[index::workers])
            for index, folder in enumerate(folders)
        ]
        states = collections.Counter(state for share in shares for state in share.result())
    print(f"   {len(tasks)} faults: afterwards {dict(states)}", flush=True)


def recovery(programs, mount, errors):
    """The process is killed after the exchange, and then each call of the recovery fails, or is its last one."""
    folder, data, trace = mount / "again", content(5000), mount / "again.trace"
    found = calls(programs, mount / "trace", len(data))
    # The calls after those that change a name.
    deaths = [later for call, later in zip(found, found[1:]) if call[0] in ("renameat2", "renameat", "unlinkat")]
    states = collections.Counter()

    def die(death):
        clear(folder)
        write_file(folder, data=data)
        programs.seal_once(folder, NAME, tracer=injected(death, "signal=KILL"))

    line, environment = programs.command("recover", programs.keys, folder)
    for death in deaths:
        die(death)
        run([*programs.prefix, "strace", "-o", trace, *line], env=environment)
        for call in between_marks(trace):
            for fault in [*(f"error={error}" for error in errors), "signal=KILL"]:
                die(death)
                run([*programs.prefix, *injected(call, fault), *line], env=environment, check=False)
                try:
                    states.update(judge(programs, folder, {NAME: data}).values())
                except Broken as broken:
                    raise Broken(f"killed before {death[0]}, recovered with {fault} at {call[0]}: {broken}") from None
    print(f"   recovery from {len(deaths)} deaths: {sum(states.values())} faults: afterwards {dict(states)}", flush=True)


def injected(call, fault):
    """The tracer that makes one fault at one call."""
    name, number, *_ = call
    return ("strace", "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:{fault}:when={number}")


def lost_writes(programs, mount, size=100_000):
    """Each write in turn says that it was done, and was not. What the disk loses, the read-back finds."""
    writes = [call for call in calls(programs, mount / "trace", size) if call[0] in ("write", "pwrite64")]
    for call in writes:
        one(programs, mount / "folder", size, call, f"retval={call[3]}")
    print(f"   {len(writes)} writes lost in turn", flush=True)


def held_open(programs, mount):
    """Somebody has the file open for writing all the time, and writes after the sealing came by."""
    folder, before, after = mount / "held", content(5000), b"and more"
    clear(folder)
    path = write_file(folder, data=before)
    with open(path, "ab", buffering=0) as writer:
        programs.seal_once(folder, NAME)
        writer.write(after)
    # The writer changed the time, which is not what is looked at here.
    os.utime(path, ns=(MODIFIED, MODIFIED))
    judge(programs, folder, {NAME: before + after})
