# SPDX-License-Identifier: Apache-2.0
"""What cloisterd refuses before it starts anything, and --check, --version, --help."""
import os
import re
import signal
import subprocess

import pytest

import harness

pytestmark = pytest.mark.standin
CLOISTERD = os.path.join(harness.BUILD, "cloisterd")
ENV = {"PATH": os.environ["PATH"], "ASAN_OPTIONS": "detect_leaks=0"}


def run(*args, uid=0, timeout=20):
    """(exit code, stdout, stderr) of cloisterd."""
    done = subprocess.run([CLOISTERD, *args], capture_output=True, text=True, timeout=timeout,
                          env=ENV, stdin=subprocess.DEVNULL, user=uid or None, group=uid or None)
    return done.returncode, done.stdout, done.stderr


def on_disk(host):
    """All that a start would make: (paths with their changes, cgroups)."""
    found = {}
    for top in (host.base, host.run_dir):
        for directory, names, files in os.walk(top):
            for path in [directory] + [os.path.join(directory, n) for n in names + files]:
                st = os.lstat(path)
                found[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns)
    cgroup = os.path.join(harness.CGROUP_MOUNT, host.cgroup) if harness.CGROUP_MOUNT else None
    return found, bool(cgroup) and os.path.exists(cgroup), os.path.exists(host.run_dir)


@pytest.fixture
def refused(make_host):
    """A function: the lines that cloisterd says to a configuration, with and without --check."""
    host = make_host(start=False)
    with open(host.config_path) as f:
        good = f.read()

    def refuse(change=lambda text: text, text=None):
        with open(host.config_path, "w") as f:
            f.write(change(good) if text is None else text)
        before = on_disk(host)
        code, out, err = run("--config", host.config_path)
        assert (code, out) == (1, ""), (code, out, err)
        again = run("--config", host.config_path, "--check")
        strip = lambda text: re.sub(r"^\S+ cloisterd\[\d+\] ", "", text, flags=re.M)
        assert again[0] == 1 and strip(again[2]) == strip(err)
        assert on_disk(host) == before
        assert "error: " in err
        return [line.split("error: ", 1)[1] for line in err.splitlines()]

    refuse.host, refuse.good = host, good
    return refuse


@pytest.mark.parametrize("section,line,says", [
    ("host", "state_dir = relative", "absolute path"),
    ("host", "state_dir = /var/../etc", "absolute path"),
    ("host", "state_dir = /a//b", "absolute path"),
    ("host", "run_dir = /" + "x" * 256, "256"),
    ("host", "require_limits = maybe", "yes or no"),
    ("host", "cgroup = /abs", "relative path"),
    ("host", "cgroup = ../up", "relative path"),
    ("host", "nonsense = 1", "unknown key"),
    ("vmm", "binary = cloud-hypervisor", "absolute path"),
    ("vmm", "uid_base = 999", "1000 to"),
    ("vmm", "uid_base = -1", "1000 to"),
    ("vmm", "uid_base = 1e6", "1000 to"),
    ("vmm", "uid_base = 4294967296", "1000 to"),
    ("vmm", "uid_base =", "1000 to"),
    ("vmm", "uid_count = 1", "2 to 65536"),
    ("vmm", "uid_count = 65537", "2 to 65536"),
    ("vmm", "env = NOVALUE", "NAME=VALUE"),
    ("vmm", "env = 1X=y", "NAME=VALUE"),
    ("vmm", "bind_ro = etc/passwd", "absolute path"),
    ("limits", "max_sandboxes = 0", "1 to 65535"),
    ("limits", "max_sandboxes = 65536", "1 to 65535"),
    ("limits", "create_ms = 99", "100 to 600000"),
    ("limits", "destroy_ms = 600001", "100 to 600000"),
    ("limits", "version_ms = 0x100", "100 to 600000"),
    ("limits", "console_bytes = 4095", "4096 to 1048576"),
    ("limits", "event_backlog = 15", "16 to 65536"),
    ("limits", "stop_ms = 60001", "0 to 60000"),
    ("limits", "reboots = 1001", "0 to 1000"),
    ("limits", "reboot_period_s = 0", "1 to 86400"),
    ("network", "pool = 10.0.0.0/7", "/8 to /30"),
    ("network", "pool = 10.0.0.1/16", "/8 to /30"),
    ("network", "uplink = " + "e" * 16, "1 to 15 bytes"),
    ("network", "egress = some", "none, internet"),
    ("tenant carol", "users = nobody-of-that-name", "existing users"),
    ("tenant carol", "max_memory_mib = 15", "16 to"),
    ("tenant carol", "max_vcpus = 0", "1 to"),
    ("admin", "groups = no-such-group", "existing groups"),
])
def test_a_wrong_value_is_named(refused, section, line, says):
    """File and line, key, value, and what is allowed."""
    key, _, value = (part.strip() for part in line.partition("="))
    kept = re.sub(rf"^{key} =.*\n", "", refused.good, flags=re.M) if section in (
        "host", "vmm") else refused.good
    text = f"[{section}]\n{line}\n{kept}"
    if section.startswith("tenant"):
        text = f"[{section}]\nusers = 64999\n{line}\n".replace(
            "users = 64999\nusers", "users") + kept
    said = refused(text=text)
    number = text.splitlines().index(line) + 1
    assert said[0].startswith(f"{refused.host.config_path}:{number}: "), said
    assert key in said[0] and says in said[0], said
    if value and says != "unknown key":
        assert f'"{value}"' in said[0]


def test_structure_and_what_single_values_cannot_tell(refused):
    path = refused.host.config_path
    good = refused.good
    lines = good.count("\n")
    for added, number, says in (
            ("[nowhere]\n", 1, "unknown section [nowhere]"),
            ("[host\n", 1, "section line"),
            ("[limits]\njust words\n", 2, "neither [section]"),
            ("[limits]\nreboots = 1\nreboots = 2\n", 3, 'key "reboots" again: it is in line'),
            ("[limits]\n; comment\n\n# comment\nRebootS = 1\n", 5, "unknown key"),
            ("[limits]\nreboots = 1 ; not a comment\n", 2, "0 to 1000"),
            ("[limits]\n" + "x" * 600 + "\n", 2, "longer than 512 bytes"),
            ("[tenant ../x]\nusers = 1\n", 1, "tenant name"),
            ("[tenant admin]\nusers = 1\n", 1, 'not "admin"'),
            ("[tenant bob]\nusers = 64555\n", 1, "second section [tenant bob]"),
            ("[limits]\nreboots = \x1b[31m\n", 2, "0 to 1000")):
        said = refused(text=good + added)
        assert any(s.startswith(f"{path}:{lines + number}: ") and says in s for s in said), said
        assert not any("\x1b" in s for s in said)
    said = refused(text="reboots = 1\n" + good)
    assert said == [f'{path}:1: key "reboots" stands before any [section]']
    base = refused.host.uid_base
    for change, says in (
            (lambda t: t.replace("uid_count = 512", "uid_count = 512\n[limits]\nmax_sandboxes = 512"),
             "below [vmm] uid_count"),
            (lambda t: t.replace(f"user = {harness.USER_UID}", f"user = {base + 3}"),
             f"uid {base + 3} lies in the range"),
            (lambda t: t.replace(f"user = {harness.USER_UID}", "user = root"), "plain user"),
            (lambda t: t.replace(f"user = {harness.USER_UID}", "user = nobody-such"), "no user"),
            (lambda t: t.replace("control_group = ", "control_group = no-such-"), "no group"),
            (lambda t: t.replace("users = 64202", "users = 64201"), "uid 64201 is in [tenant alice]"),
            (lambda t: t.replace("users = 64202", f"users = {base}"), "lies in the range"),
            (lambda t: t + "[tenant carol]\nmax_vcpus = 3\n", "neither users nor groups"),
            (lambda t: re.sub(r"run_dir = .*", f"run_dir = {refused.host.state_dir}", t),
             "same directory")):
        said = refused(change)
        assert len(said) == 1 and said[0].startswith(path + ": ") and says in said[0], said


def test_all_errors_of_a_file_are_reported(refused):
    text = "[limits]\nreboots = x\nnothing = 1\n[nowhere]\na = b\n" + refused.good + \
        "[vmm]\nuid_count = 70000\n[tenant carol]\n"
    said = refused(text=text)
    total = text.count("\n")
    for number, words in ((2, "reboots"), (3, "nothing"), (4, "nowhere"), (total - 1, "uid_count")):
        assert any(s.startswith(f"{refused.host.config_path}:{number}: ") and words in s
                   for s in said), said
    assert any("[tenant carol]" in s for s in said) and len(said) == 5


def test_the_file_itself(refused):
    """It says what root does, so it must be root's."""
    host = refused.host
    path = host.config_path

    def says(word, of=path):
        code, out, err = run("--config", of)
        assert (code, out) == (1, "") and word in err and of in err, err

    says("ENOENT", of=path + ".missing")
    os.chown(path, 64201, 0)
    says("uid 64201")
    os.chown(path, 0, 0)
    for mode in (0o664, 0o646, 0o666):
        os.chmod(path, mode)
        says(f"{mode:04o}")
    os.chmod(path, 0o644)
    link, fifo, hard = (os.path.join(host.base, n) for n in ("link", "fifo", "hard"))
    os.symlink(path, link)
    says("ELOOP", of=link)
    os.mkfifo(fifo, 0o600)
    says("not a regular file", of=fifo)
    says("not a regular file", of=host.base)
    os.link(path, hard)
    says("links")
    os.unlink(hard)
    with open(path, "a") as f:
        f.write("#" * 80 + "\n" * (1 << 20))
    says("bytes")
    assert not os.path.exists(host.state_dir) and not os.path.exists(host.run_dir)


def test_check_changes_nothing(make_host):
    host = make_host(start=False)
    before = on_disk(host)
    code, out, err = run("--config", host.config_path, "--check")
    assert on_disk(host) == before and not os.path.exists(host.state_dir)
    lines = out.splitlines()
    assert code == 0 and lines and err == "", (out, err)
    assert all(re.match(r"(ok|warning) +\S", line) for line in lines)
    for word in (f"uid {harness.USER_UID}", "2 tenants", f"{host.state_dir} will be made",
                 f"{host.run_dir} will be made", host.vmm, "cloister-shim", "/dev/kvm", "53.0.0"):
        assert any(word in line for line in lines), (word, out)
    # Beside a daemon that runs: neither gets in the other's way.
    host.start()
    host.create(id="one")
    code, out, _ = run("--config", host.config_path, "--check")
    assert code == 0 and "will be made" not in out
    assert host.get("one")["state"] == "running"
    # A host that is not fit: each point is an error line, the others are still said.
    with open(host.config_path) as f:
        good = f.read()
    other = os.path.join(host.base, "other.conf")
    writable = os.path.join(host.base, "vmm")
    with open(writable, "w") as f:
        f.write("#!/bin/sh\n")
    os.chmod(writable, 0o777)
    for binary in (writable, "/no/such/binary", host.base):
        with open(other, "w") as f:
            f.write(good.replace(host.vmm, binary))
        code, out, _ = run("--config", other, "--check")
        wrong = [line for line in out.splitlines() if line.startswith("error ")]
        assert code == 1 and binary in wrong[0] and "cloister-shim" in out, out
        # A start refuses it as well.
        host.stop()
        code, _, err = run("--config", other)
        assert code == 1 and binary in err, err
        host.start()
    with open(other, "w") as f:
        f.write(good.replace(host.state_dir, host.config_path))
    code, out, _ = run("--config", other, "--check")
    assert code == 1 and f"{host.config_path} is not a directory" in out


def test_arguments(make_host):
    host = make_host(start=False)
    code, out, err = run("--version")
    assert code == 0 and re.fullmatch(r"cloisterd \d+\.\d+\.\d+\n", out) and err == ""
    code, out, err = run("--help")
    assert code == 0 and err == "" and all(w in out for w in ("--config", "--check", "--log-level"))
    # Whoever asks for these need not be root.
    assert run("--version", uid=64201)[0] == 0 and run("--help", uid=64201)[0] == 0
    for args, says in (((), "--config is missing"), (("--check",), "--config is missing"),
                       (("--config",), "requires an argument"), (("--nonsense",), "--nonsense"),
                       (("--config", host.config_path, "more"), "too many arguments"),
                       (("--config", host.config_path, "--log-level", "loud"), '"loud" is no level')):
        code, out, err = run(*args)
        assert code == 2 and out == "" and says in err and "usage:" in err, (args, err)
    for args in ((), ("--check",)):
        code, out, err = run("--config", host.config_path, *args, uid=64201)
        assert code == 1 and "must be started as root" in err and out == ""
    assert not os.path.exists(host.state_dir)


def test_log_levels(make_host):
    """What is below the asked level is not written."""
    host = make_host(start=False)
    host.start(log_level="error")
    host.create(id="one")
    host.stop(signal.SIGTERM)
    assert "cloisterd[" not in host.log()
    host.start(log_level="notice")
    own = [line for line in host.log().splitlines() if "cloisterd[" in line]
    assert "notice: ready" in own[0] and not any("info:" in line for line in own)
    host.destroy("one")
