"""stress-ng's file system stressors for some minutes: nothing hangs, nothing that was verified is wrong, the disk is clean."""

import shutil

from common import Broken, image, run, view

# Of stress-ng: those that work on files of the current directory and verify what they can.
STRESSORS = ("hdd", "rename", "dentry", "dir", "link", "symlink", "fallocate", "seek", "iomix", "mmap", "flock", "lockf", "utime", "xattr", "fiemap", "copy-file")
SECONDS = 15


def suite(programs, _long):
    """Each stressor by itself, two workers."""
    if not shutil.which("stress-ng"):
        raise Broken("stress-ng is not installed")
    with image(programs.work, "under", 2048) as under:
        folder = under / "folder"
        folder.mkdir()
        with view(programs, folder) as place:
            for stressor in STRESSORS:
                line = ["stress-ng", "--temp-path", place, "--verify", "--timeout", SECONDS, f"--{stressor}", 2]
                result = run(line, check=False)
                # 3: not implemented here.
                if result.returncode not in (0, 3):
                    raise Broken(f"stress-ng --{stressor}: {result.returncode}\n{result.stdout[-2000:]}")
                print(f"  stress-ng --{stressor}: {'not here' if result.returncode else 'ok'}", flush=True)
