"""A person at work in LibreOffice, by UNO: a document in the folder is made, edited and saved again and again, and closed.

    office.py PROGRAM PROFILE FILE VERSIONS

Prints a line for each version once it is saved. For daemon/src/watch/tests/programs.rs; runs with the Python that has `uno`.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys
import time

import uno
from com.sun.star.beans import PropertyValue
from com.sun.star.connection import NoConnectException

LIMIT = 120
# A new profile is there now: to be started once more.
RESTART = 81


def end_with_this():
    """The program ends when this one does, however that may be."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def connected(pipe, start):
    """The program, and its desktop once it answers."""
    program = start()
    local = uno.getComponentContext()
    resolver = local.ServiceManager.createInstanceWithContext("com.sun.star.bridge.UnoUrlResolver", local)
    end = time.monotonic() + LIMIT
    while True:
        try:
            context = resolver.resolve(f"uno:pipe,name={pipe};urp;StarOffice.ComponentContext")
            return program, context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
        except NoConnectException:
            if program.poll() == RESTART:
                program = start()
            elif time.monotonic() > end or program.poll() is not None:
                program.kill()
                raise
            time.sleep(0.1)


def setting(name, value):
    """A setting of a call."""
    return PropertyValue(Name=name, Value=value)


def main():
    """Does it."""
    office, profile, file, versions = sys.argv[1:]
    pipe = f"tobari-{os.getpid()}"
    line = [office, "--headless", "--norestore", "--nologo", f"--accept=pipe,name={pipe};urp;",
            f"-env:UserInstallation={pathlib.Path(profile).as_uri()}"]
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    program, desktop = connected(pipe, lambda: subprocess.Popen(line, preexec_fn=end_with_this, **nowhere))
    try:
        hidden = (setting("Hidden", True),)
        document = desktop.loadComponentFromURL("private:factory/swriter", "_blank", 0, hidden)
        text = document.Text
        for version in range(int(versions)):
            text.insertString(text.End, f"version {version} of the text. ", False)
            if version == 0:
                # By its extension.
                document.storeAsURL(pathlib.Path(file).as_uri(), (setting("FilterName", "OpenDocument Text Flat XML"),))
            else:
                document.store()
            print(f"saved {version}", flush=True)
            # Until it may go on.
            sys.stdin.readline()
        document.close(True)
        desktop.terminate()
        program.wait(LIMIT)
    finally:
        program.kill()
        program.wait()


main()
