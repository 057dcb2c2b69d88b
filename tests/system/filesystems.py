# SPDX-License-Identifier: Apache-2.0
"""File systems for tests: ext4, xfs and btrfs, each in a sparse file on a loop device of its own.

Whatever becomes of the run, they go: a keeper process unmounts them as soon as its end of a pipe
says that the run is over, and a loop device ends with its last mount (LO_FLAGS_AUTOCLEAR, which
mount(8) sets).
"""
import contextlib
import fcntl
import os
import subprocess
import tempfile

KINDS = ("ext4", "xfs", "btrfs")
# ext4's journal would otherwise be as large as the smallest of them; xfs takes 300 MiB at least.
MKFS = {"ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=4"],
        "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
        "btrfs": ["mkfs.btrfs", "-q", "-f"]}
SMALLEST_MIB = {"ext4": 16, "xfs": 300, "btrfs": 128}
USUAL_MIB = 768
REFLINK = ("xfs", "btrfs")
FICLONE = 0x40049409

# What a killed run has left running holds its file systems in namespaces of its own: shims and
# spawners that have a device of ours mounted are ended too, and their VMMs and cloisterd with them.
KEEPER = r"""
trap '' INT TERM HUP
cat >/dev/null
ours=$(awk -v base="$1/" 'index($5, base) == 1 { print $3 }' /proc/self/mountinfo)
awk -v base="$1/" 'index($2, base) == 1 { print $2 }' /proc/mounts | sort -r |
while read -r point; do umount -l "$point"; done
for process in /proc/[0-9]*; do
    case $(tr '\0' ' ' <"$process/cmdline") in
    "cloister-shim "*)
        awk -v ours="$ours" 'BEGIN { split(ours, list, "\n"); for (i in list) is[list[i]] = 1 }
            $3 in is { found = 1 } END { exit !found }' "$process/mountinfo" &&
            kill -9 "${process#/proc/}" ;;
    esac
done 2>/dev/null
rm -rf --one-file-system "$1"
"""


class Unavailable(Exception):
    """Why a kind of file system cannot be had here."""


def run(*words):
    """Its standard output; Unavailable with what it said, or with that there is no such program."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    except FileNotFoundError as error:
        raise Unavailable(f"{words[0]} is not installed") from error
    if done.returncode != 0:
        raise Unavailable(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


class Mounts:
    """Everything below one directory, which goes with whoever made this."""

    def __init__(self):
        # Not on a tmpfs: what is written to these file systems is not to be kept in memory.
        self.base = tempfile.mkdtemp(prefix="cloister-fs-", dir="/var/tmp")
        os.chmod(self.base, 0o755)
        self.keeper = subprocess.Popen(["/bin/sh", "-c", KEEPER, "keeper", self.base],
                                       stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                       start_new_session=True)
        self.usual, self.faults, self.count = {}, {}, 0

    def new_path(self, kind, where=None):
        self.count += 1
        return os.path.join(where or self.base, f"{kind}-{self.count}")

    def make(self, kind, mib, where=None):
        """A new image of such a file system, below `where` if it is given; gives its path."""
        image = self.new_path(kind, where) + ".img"
        with open(image, "xb") as f:
            f.truncate(max(mib, SMALLEST_MIB[kind]) << 20)
        run(*MKFS[kind], image)
        return image

    def mount(self, image, point=None, options="noatime"):
        """Mounts an image, at a new directory if none is given; gives the directory."""
        point = point or self.new_path("mount")
        os.makedirs(point, exist_ok=True)
        run("mount", "-o", f"loop,{options}", image, point)
        return point

    def umount(self, point):
        """Whoever still uses it may go on; its loop device ends with the last one."""
        subprocess.run(["umount", "-l", point], check=True)

    def has_gone(self, image):
        """
        Whether nobody uses the file system in that image any more, in no namespace: another one
        with its UUID can be mounted from then on only.
        """
        return not run("losetup", "--associated", image)

    def get(self, kind):
        """The run's own one of that kind, made at the first call; gives its directory."""
        if kind in self.faults:
            raise Unavailable(self.faults[kind])
        if kind not in self.usual:
            try:
                self.usual[kind] = self.mount(self.make(kind, USUAL_MIB))
            except Unavailable as error:
                self.faults[kind] = str(error)
                raise
        return self.usual[kind]

    @contextlib.contextmanager
    def small(self, kind, mib, options="noatime"):
        """One that is there for a while; gives (directory, image)."""
        image = self.make(kind, mib)
        point = self.mount(image, options=options)
        try:
            yield point, image
        finally:
            self.umount(point)
            os.rmdir(point)
            os.unlink(image)

    def close(self):
        self.keeper.stdin.close()
        self.keeper.wait(60)


_mounts = None


def mounts():
    """The run's own, made at the first call."""
    global _mounts
    if _mounts is None:
        _mounts = Mounts()
    return _mounts


def why_not(kind):
    """None, or why there is no such file system here."""
    if os.geteuid() != 0:
        return "not run as root"
    try:
        mounts().get(kind)
    except Unavailable as error:
        return f"no {kind}: {error}"
    return None


def close():
    global _mounts
    if _mounts is not None:
        _mounts.close()
        _mounts = None


def clone(source, target):
    """
    All of a file at one moment, by FICLONE (ioctl_ficlone(2)): of a loop device's image that is
    what a crash of the host at that moment would leave, with what was not synced partly missing.
    """
    with open(source, "rb") as old, open(target, "xb") as new:
        fcntl.ioctl(new, FICLONE, old.fileno())


@contextlib.contextmanager
def loop_device(path):
    """A block device over a file; detached at the end, also when this process is killed."""
    device = run("losetup", "--find", "--show", path).strip()
    fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # In use, so it is marked to go with its last user: LO_FLAGS_AUTOCLEAR.
        run("losetup", "--detach", device)
        yield device
    finally:
        os.close(fd)


def room(path):
    """Bytes that are free for root."""
    st = os.statvfs(path)
    return st.f_bfree * st.f_frsize
