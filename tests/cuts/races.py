"""Others at work on the files while they are sealed: what anybody writes is kept."""

import contextlib
import ctypes
import os
import pathlib
import signal
import subprocess
import threading
import time

from common import MODIFIED, UID, Broken, judge, lay, run
from faults import calls, injected, shared_out

LATE = b" and more"


def held_open(programs, mount, case):
    """Somebody has the files open for writing all the time, and writes after the sealing came by."""
    folder = mount / "held"
    lay(folder, case)
    writers = [open(folder / name, "ab", buffering=0) for name in case.files]
    programs.seal(folder, case)
    for writer in writers:
        writer.write(LATE)
        writer.close()
    check(programs, folder, case, "held open")


def check(programs, folder, case, what):
    """All files have what was written late; then they can be sealed."""
    files = {name: data + LATE for name, data in case.files.items()}
    run(programs.weakened().command("recover", programs.keys, folder)[0], check=False)
    try:
        for name in files:
            # The writer changed the time, which is not what is looked at here.
            os.utime(folder / name, ns=(MODIFIED, MODIFIED))
        judge(programs, folder, files)
        programs.weakened().seal(folder, case)
        judge(programs, folder, files, files)
    except (Broken, OSError) as broken:
        raise Broken(f"{case}: {what}: {broken}") from None


def late_openers(programs, mount, case, fault="signal=STOP"):
    """For each call from the exchange on: the program is stopped at it, or killed, and somebody who resolved the names before
    the sealing opens the files and writes. What is given up already cannot be opened any more."""
    found = calls(programs, mount / "trace", case)
    first = next(index for index, call in enumerate(found) if call[0] == "renameat2")
    tasks = [(call, fault) for call in found[first:]]
    late = sum(shared_out(mount, tasks, lambda folder, *task: stopped(programs, folder, case, *task)))
    print(f"   {case}: late openers at {len(tasks)} system calls ({fault}); {late} files written to", flush=True)


def stopped(programs, folder, case, call, fault):
    """One of them; the number of files that were written to."""
    lay(folder, case)
    resolved = {name: os.open(folder / name, os.O_PATH) for name in case.files}
    log = folder.with_suffix(".stops")
    log.unlink(missing_ok=True)
    line, environment = programs.sealing(folder, case, injected(call, fault, log))
    # As the daemon does, which only death ends at once.
    environment = {**(environment or os.environ), "TOBARI_TEST_STAY": "1"}
    process = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    sealer = wait_for_stop(process, log)
    written = set()
    threads = [threading.Thread(target=write_late, args=(name, path, written)) for name, path in resolved.items()]
    for thread in threads:
        thread.start()
    if sealer:
        for thread in threads:
            wait_for_lease(thread)
    while process.poll() is None:
        if sealer:
            with contextlib.suppress(ProcessLookupError):
                os.kill(sealer, signal.SIGCONT)
        time.sleep(0.005)
    for thread in threads:
        thread.join(60)
    for path in resolved.values():
        os.close(path)
    run(programs.weakened().command("recover", programs.keys, folder)[0], check=False)
    expected = {name: data + (LATE if name in written else b"") for name, data in case.files.items()}
    try:
        for name in written:
            os.utime(folder / name, ns=(MODIFIED, MODIFIED))
        judge(programs, folder, expected)
        programs.weakened().seal(folder, case)
        judge(programs, folder, expected, expected)
    except (Broken, OSError) as broken:
        raise Broken(f"{case}: written to at {call[0]} {call[1]} with {fault}: {broken}") from None
    return len(written)


def write_late(name, path, written):
    """Opens what was resolved as the owner of the file, and writes; it may be refused."""
    # Of this thread alone.
    ctypes.CDLL(None).setfsuid(UID)
    try:
        with open(f"/proc/self/fd/{path}", "ab", buffering=0) as file:
            file.write(LATE)
            written.add(name)
    except OSError:
        pass


def wait_for_stop(process, log):
    """The number of the stopped program, of which the tracer tells; none when it came to its end."""
    while process.poll() is None:
        if log.exists() and "stopped by SIGSTOP" in log.read_text(errors="replace"):
            return int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        time.sleep(0.002)
    return None


def wait_for_lease(thread):
    """Until the thread is done or waits for a lease."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if not thread.is_alive():
            return
        try:
            if "lease" in pathlib.Path(f"/proc/self/task/{thread.native_id}/wchan").read_text():
                return
        except OSError:
            pass
        time.sleep(0.001)
    print("   a late opener neither came through nor waits: its place in the kernel is not told here", flush=True)
