# SPDX-License-Identifier: Apache-2.0
"""What a disk must hold, kept by the test itself, and the words by which the guests write and read.

The pattern and the checksum are those of tests/guest and of the stand-in's guest.
"""
import array
import os
import re

from harness import wait_for

SECTOR = 512
MIB = 1 << 20
MASK = 0xffffffff
COMMAND_SECTORS = 2048  # that one command of the guest takes at most


def pattern(sector, count, seed):
    """The bytes that `dwrite D sector count seed` puts there."""
    base = seed * 0x9E3779B1 & MASK
    words = array.array("I", [base + w * 0x85EBCA6B & MASK
                              for w in range(sector * 128, (sector + count) * 128)])
    return words.tobytes()


def checksum(data):
    """As `dread` prints it."""
    total = 0
    for word in array.array("I", data):
        total = total * 33 + word & MASK
    return f"{total:08x}"


class Model:
    """The bytes of one disk."""

    def __init__(self, data, size_mib=None):
        size = (size_mib << 20) if size_mib else len(data)
        self.data = bytearray(data) + bytearray(size - len(data))

    def copy(self):
        return Model(self.data)

    @property
    def sectors(self):
        return len(self.data) // SECTOR

    def write(self, sector, count, seed):
        self.data[sector * SECTOR:(sector + count) * SECTOR] = pattern(sector, count, seed)

    def sum(self, sector, count):
        return checksum(self.data[sector * SECTOR:(sector + count) * SECTOR])

    def differs(self, path, older=None):
        """
        None, or where the file is not what it must be. Holes are compared as what they read. With
        an older model each sector may also be as that one has it.
        """
        with open(path, "rb") as f:
            size = os.fstat(f.fileno()).st_size
            if size != len(self.data):
                return f"{path}: {size} bytes, not {len(self.data)}"
            for at in range(0, size, MIB):
                got, want = f.read(MIB), self.data[at:at + MIB]
                if got == want:
                    continue
                for i in range(0, len(got), SECTOR):
                    there = got[i:i + SECTOR]
                    if there != want[i:i + SECTOR] and not (
                            older and there == older.data[at + i:at + i + SECTOR]):
                        return f"{path}: sector {(at + i) // SECTOR} is not as it was written"
        return None


def tell(host, box, words, pattern_of_answer, timeout=60):
    """Types a command and gives the match of what the guest answers behind all it said so far."""
    before = len(host.console(box))
    host.send(box, words + "\n")
    return wait_for(lambda: re.search(pattern_of_answer, host.console(box)[before:]), timeout,
                    f"{pattern_of_answer!r} after {words!r} of {box}")


def size(host, box, disk):
    return int(tell(host, box, f"dsize {disk}", rf"DSIZE {disk} (\d+)\r?\n").group(1))


def write(host, box, disk, sector, count, seed, want="OK"):
    """want: OK, or ERR; gives the status of the error."""
    got = tell(host, box, f"dwrite {disk} {sector} {count} {seed}",
               rf"DWRITE {disk} {sector} {count} (OK|ERR)(?: (\d+))?\r?\n")
    assert got.group(1) == want, got.group(0)
    return got.group(2)


def read(host, box, disk, sector, count):
    """The checksum, or ERR and the status."""
    return tell(host, box, f"dread {disk} {sector} {count}",
                rf"DREAD {disk} {sector} {count} ([0-9a-f]{{8}}|ERR \d+)\r?\n").group(1)


def flush(host, box, disk):
    got = tell(host, box, f"dflush {disk}", rf"DFLUSH {disk} (OK|ERR \d+)\r?\n").group(1)
    assert got == "OK", got


def write_both(host, box, disk, model, sector, count, seed):
    """By the guest and in the model."""
    write(host, box, disk, sector, count, seed)
    model.write(sector, count, seed)


def check_read(host, box, disk, model, ranges):
    """The guest reads what the model says, in each (sector, count)."""
    for sector, count in ranges:
        got, want = read(host, box, disk, sector, count), model.sum(sector, count)
        assert got == want, (box, disk, sector, count, got, want)


def all_ranges(model, step=COMMAND_SECTORS):
    return [(at, min(step, model.sectors - at)) for at in range(0, model.sectors, step)]


def path_of(host, box, disk, tenant="admin"):
    """A writable disk's file on the host."""
    return os.path.join(host.state_dir, "sandboxes", f"{tenant}:{box}", "disks", str(disk))


def check_file(host, box, disk, model, tenant="admin"):
    problem = model.differs(path_of(host, box, disk, tenant))
    assert problem is None, problem


def make_image(host, name, pieces, size, mode=0o444):
    """
    STATE_DIR/images/disks/NAME of `size` bytes: a hole but for the pieces, each a (sector, count,
    seed). Gives its model.
    """
    path = image_path(host, name)
    model = Model(bytes(size))
    with open(path, "xb") as f:
        f.truncate(size)
        for sector, count, seed in pieces:
            model.write(sector, count, seed)
            f.seek(sector * SECTOR)
            f.write(pattern(sector, count, seed))
    os.chmod(path, mode)
    return model


def image_path(host, name):
    return os.path.join(host.state_dir, "images", "disks", name)


def allocated(path):
    return os.stat(path).st_blocks * 512
