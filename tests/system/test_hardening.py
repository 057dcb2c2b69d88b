# SPDX-License-Identifier: Apache-2.0
"""How the three programs are compiled, by hardening-check(1); what the AppArmor profiles hold."""
import os
import re
import shutil
import subprocess

import pytest

import harness
from test_caps import NEEDS

PROGRAMS = ["cloisterd", "cloister-shim", "cloister"]
# gcc's way to grow a frame page by page; hardening-check knows only the loop for arrays of variable
# length, which our programs do not have.
PROBE = re.compile(r"sub +\$0x1000,%rsp\n.*(or. +\$0x0,|mov. +\$0x0,)(0x[0-9a-f]+)?\(%rsp\)")
FRAME = re.compile(r"sub +\$0x([0-9a-f]+),%rsp")


def path_of(program):
    return os.path.join(harness.BUILD, program)


def points(program):
    """{point: (yes, no or unknown, what is said besides)}"""
    text = subprocess.run(["hardening-check", path_of(program)], capture_output=True, text=True,
                          check=False).stdout
    found = re.findall(r"^ ([^:\n]+): (\w+)(.*)$", text, re.M)
    return {point: (answer, more) for point, answer, more in found}


@pytest.mark.skipif(harness.SANITIZED, reason="a sanitized build is no build for a host")
@pytest.mark.parametrize("program", PROGRAMS)
def test_hardening_check(program):
    found = points(program)
    assert len(found) == 7, found
    answer, more = found.pop("Stack clash protection")
    assert {a for a, _ in found.values()} == {"yes"}, found
    assert answer in ("yes", "unknown"), more


@pytest.mark.skipif(harness.SANITIZED, reason="a sanitized build is no build for a host")
@pytest.mark.parametrize("program", PROGRAMS)
def test_large_frames_are_probed(program):
    """What hardening-check cannot see: no frame grows by more than a page at once."""
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path_of(program)],
                          capture_output=True, text=True, check=True).stdout
    # One of -128 is the shorter way to add 128.
    frames = [size for size in (int(n, 16) for n in FRAME.findall(code)) if size < 1 << 63]
    assert frames and max(frames) <= 0x1000
    assert PROBE.search(code), "there is not one large frame to be probed"


# ------------------------------------------------------------------ AppArmor


def profile_text(name, prefix="/usr"):
    with open(os.path.join(harness.TOP, "contrib", "apparmor", name)) as f:
        return f.read().replace("@PREFIX@", prefix)


def parse_profile(tmp_path, text):
    """The profile in its compiled form; this does not load it, as the kernel may have no AppArmor."""
    path = tmp_path / "profile"
    path.write_text(text)
    done = subprocess.run(["apparmor_parser", "-Q", "-K", "-T", "-S", str(path)],
                          capture_output=True, check=False)
    return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize("name", ["cloisterd", "cloister-shim"])
def test_apparmor_profiles_parse(name, tmp_path):
    assert shutil.which("apparmor_parser")
    status, compiled, errors = parse_profile(tmp_path, profile_text(name))
    assert status == 0 and len(compiled) > 1000, errors
    # It reads what it is given, and every word of it.
    broken = profile_text(name).replace("capability chown,", "capability chwon,")
    assert parse_profile(tmp_path, broken)[0] != 0


def test_apparmor_names_the_capabilities_of_the_table():
    shim, vmm = profile_text("cloister-shim").split("profile cloister-vmm")
    named = set(re.findall(r"^  capability (\w+),$", shim, re.M))
    assert named == {n.lower() for n in set().union(*NEEDS.values()) | {"SETPCAP"}}
    assert "capability" not in vmm

