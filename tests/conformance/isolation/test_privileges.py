"""What a function can't become, change or look at."""

from __future__ import annotations

import json

import pytest

from tests.conformance.isolation.attacker import Attacker
from tests.platform_under_test import Platform

STATUS = """
result = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
"""
#: x86-64 and arm64 numbers.
SYSCALLS = """
import ctypes, errno, os, platform, shutil
column = {"x86_64": 0, "aarch64": 1}[platform.machine()]
libc = ctypes.CDLL(None, use_errno=True)
calls = {
    "mount": (165, 40, b"none", b"/tmp", b"tmpfs", 0, None), "umount": (166, 39, b"/var/task", 2),
    "unshare user namespace": (272, 97, 0x10000000), "unshare mount namespace": (272, 97, 0x20000),
    "setns": (308, 268, 0, 0), "pivot_root": (155, 41, b"/tmp", b"/tmp"), "chroot": (161, 51, b"/tmp"),
    "process_vm_readv": (310, 270, 1, 0, 0, 0, 0, 0),
    "kcmp": (312, 272, 1, 1, 0, 0, 0), "pidfd_getfd": (438, 438, 0, 0, 0),
    "init_module": (175, 105, 0, 0, 0), "finit_module": (313, 273, 0, 0, 0), "delete_module": (176, 106, 0, 0),
    "kexec_load": (246, 104, 0, 0, 0, 0), "reboot": (169, 142, 0, 0, 0, 0), "bpf": (321, 280, 0, 0, 0),
    "perf_event_open": (298, 241, 0, 0, 0, 0, 0), "userfaultfd": (323, 282, 1),
    "add_key": (248, 217, b"user", b"x", b"x", 1, -3), "keyctl": (250, 219, 0, -3, 1),
    "request_key": (249, 218, b"user", b"x", 0, -3), "syslog": (103, 116, 3, 0, 0),
    "open_by_handle_at": (304, 265, 0, 0, 0), "swapon": (167, 224, b"/tmp/x", 0), "settimeofday": (164, 170, 0, 0),
    "sethostname": (170, 161, b"x", 1), "fsopen": (430, 430, b"tmpfs", 0), "quotactl": (179, 60, 0, 0, 0, 0),
    "mknod": (259, 33, -100, b"/tmp/disk", 0o60666, 0xFD00), "setuid 0": (105, 146, 0), "setgid 0": (106, 144, 0),
    "setgroups": (116, 159, 1, ctypes.byref(ctypes.c_uint(0))),
}
result = {}
for name, (x86, arm, *arguments) in calls.items():
    ctypes.set_errno(0)
    done = libc.syscall((x86, arm)[column], *arguments)
    result[name] = "DONE" if done >= 0 else errno.errorcode[ctypes.get_errno()]
"""


def test_a_process_has_no_capability_and_can_gain_none(attacker: Attacker) -> None:
    status = attacker.see(STATUS)

    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [0] * 5
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert status["Uid"].split() == ["993"] * 4
    assert status["Gid"].split() == ["990"] * 4
    assert "0" not in status["Groups"].split()


def test_system_calls_of_administrators_are_refused(attacker: Attacker) -> None:
    ends = attacker.see(SYSCALLS)

    assert {name: end for name, end in ends.items() if end not in ("EPERM", "ENOSYS")} == {}


def test_a_setuid_program_gives_nothing(attacker: Attacker) -> None:
    """A copy of the interpreter, set-user-id for its owner; and whatever the image brings along."""
    found = attacker.see("""
import os, shutil, subprocess, sys
shutil.copy(os.path.realpath(sys.executable), "/tmp/python")
os.chmod("/tmp/python", 0o6755)
code = "print(open('/proc/self/status').read())"
copied = subprocess.run(["/tmp/python", "-ISc", code], capture_output=True, text=True,
                        env={**os.environ, "PYTHONHOME": sys.prefix}).stdout
raised = []
for directory, _, files in os.walk("/"):
    if directory.startswith(("/proc", "/sys")):
        continue
    for name in files:
        path = os.path.join(directory, name)
        if os.path.isfile(path) and os.stat(path).st_mode & 0o6000 and os.stat(path).st_uid == 0:
            raised.append(path)
result = {"copied": copied, "raised": raised,
          "tmp": [line for line in open("/proc/mounts") if line.split()[1] == "/tmp"]}
os.unlink("/tmp/python")
""")

    assert "Uid:\t993\t993\t993\t993" in found["copied"]
    assert "nosuid" in found["tmp"][0]
    assert "nodev" in found["tmp"][0]


def test_nothing_but_tmp_and_shared_memory_can_be_written(attacker: Attacker) -> None:
    """Every directory and file of the whole tree is tried, not a list of suspects."""
    written = attacker.see("""
import os, stat
result = []
allowed = ("/tmp", "/dev/shm", "/dev/mqueue")
for directory, names, files in os.walk("/"):
    if directory.startswith(allowed):
        names.clear()
        continue
    if directory.startswith("/proc/") and directory.split("/")[2].isdigit():
        names.clear()
        continue
    try:
        with open(os.path.join(directory, "written-by-attacker"), "x"):
            result.append(directory)
    except OSError:
        pass
    if directory.startswith(("/proc", "/sys", "/run", "/etc", "/var", "/opt")):
        for name in files:
            path = os.path.join(directory, name)
            try:
                if path == "/run/lambdock/log" or stat.S_ISCHR(os.stat(path).st_mode):
                    continue  # its own log, and what is masked by /dev/null
                os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
                result.append(path)
            except OSError:
                pass
""")

    assert written == []


def test_the_package_can_be_changed_in_no_way(attacker: Attacker) -> None:
    ends = attacker.see("""
import errno, os
def end(do):
    try:
        do()
        return "DONE"
    except OSError as error:
        return errno.errorcode[error.errno]
os.makedirs("/tmp/d", exist_ok=True)
result = [
    end(lambda: open("/var/task/app.py", "a")), end(lambda: os.unlink("/var/task/app.py")),
    end(lambda: os.rename("/var/task/app.py", "/var/task/b.py")), end(lambda: os.chmod("/var/task/app.py", 0o777)),
    end(lambda: os.utime("/var/task/app.py")), end(lambda: os.link("/var/task/app.py", "/tmp/d/app.py")),
    end(lambda: os.symlink("/tmp/d", "/var/task/d")), end(lambda: os.truncate("/var/task/app.py", 0)),
    end(lambda: open("/proc/self/root/var/task/app.py", "a")), end(lambda: open("/proc/1/root/var/task/app.py", "a")),
]
""")

    assert set(ends) <= {"EROFS", "EACCES", "EPERM", "EXDEV"}, ends


def test_device_nodes_are_the_harmless_ones(attacker: Attacker) -> None:
    found = attacker.see("""
import os, stat
result = [name for name in os.listdir("/dev") if os.path.exists("/dev/" + name)
          and (stat.S_ISBLK(os.stat("/dev/" + name).st_mode) or stat.S_ISCHR(os.stat("/dev/" + name).st_mode))]
""")

    assert set(found) <= {"full", "null", "ptmx", "random", "tty", "urandom", "zero", "stdin", "stdout", "stderr"}


def test_processes_of_others_are_invisible(attacker: Attacker, victim: Attacker) -> None:
    victim.see("import subprocess; kept['child'] = subprocess.Popen(['/var/lang/bin/python3', '-c', 'input()'],"
               "stdin=subprocess.PIPE); result = 1")  # fmt: skip

    seen = attacker.see("""
import os
own = os.getpid()
result = {"others": [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != own], "killed": []}
for pid in range(2, 40_000):
    if pid != os.getpid() and pid not in result["others"]:
        try:
            os.kill(pid, 9)
            result["killed"].append(pid)
        except ProcessLookupError:
            pass
""")

    assert seen == {"others": [1], "killed": []}, "its own init is all that it sees"
    assert victim.see("result = kept['child'].poll()") is None
    victim.see("kept['child'].kill(); kept.pop('child').wait(); result = 1")


def test_the_engine_and_the_run_directory_tell_no_secret(platform: Platform) -> None:
    secret = "hunter2-of-this-function"
    function = Attacker(platform, Environment={"Variables": {"PASSWORD": secret}})
    seen = function.see("""
import os
result = {"password": os.environ["PASSWORD"], "run": os.listdir("/run/lambdock"),
          "fds": {int(fd): os.readlink("/proc/self/fd/" + fd) for fd in os.listdir("/proc/self/fd")
                  if os.path.exists("/proc/self/fd/" + fd)}}
""")

    inspection = function.container()

    assert seen["password"] == secret
    assert secret not in json.dumps(inspection)
    assert seen["run"] == ["log"]
    assert {path for path in seen["fds"].values() if path.startswith("/")} <= {"/dev/null", "/run/lambdock/log"} | {
        path for path in seen["fds"].values() if path.startswith("/proc/")
    }
    assert inspection["HostConfig"]["LogConfig"]["Type"] == "none"


def test_what_one_function_leaves_another_does_not_find(attacker: Attacker, victim: Attacker) -> None:
    left = """
import os
for directory in ("/tmp", "/dev/shm"):
    with open(directory + "/secret-of-a-tenant", "w") as file:
        file.write("secret")
result = True
"""
    victim.see(left)

    found = attacker.see("""
import os
result = [os.path.join(directory, name) for top in ("/tmp", "/dev/shm", "/dev/mqueue", "/run", "/var/task", "/opt")
          for directory, _, names in os.walk(top) for name in names]
""")

    assert found == ["/run/lambdock/log", "/var/task/app.py"]
    victim.see("import os; os.unlink('/tmp/secret-of-a-tenant'); os.unlink('/dev/shm/secret-of-a-tenant'); result = 1")


@pytest.mark.parametrize("variable", ["LD_PRELOAD", "PYTHONSTARTUP", "PYTHONPATH", "PYTHONINSPECT", "PYTHONHOME"])
def test_container_environment_has_nothing_of_the_functions(attacker: Attacker, variable: str) -> None:
    attacker.see("result = 1")

    assert variable not in [entry.split("=")[0] for entry in attacker.container()["Config"]["Env"] or []]


def test_files_of_the_package_do_not_run_before_the_gate_opens(platform: Platform) -> None:
    """They do reach the runtime, as on Lambda: the proof is that they saw its environment, and no FIFO but the log."""
    spy = """
import json, os
if not os.path.exists("/tmp/spied"):
    with open("/tmp/spied", "w") as file:
        json.dump({"handler": os.environ.get("_HANDLER"), "run": os.listdir("/run/lambdock"),
                   "fds": [os.readlink("/proc/self/fd/" + fd) for fd in ("0", "1", "2")]}, file)
"""
    name = platform.create(
        {
            "app.py": "def handler(event, context):\n    return open('/tmp/spied').read()\n",
            "sitecustomize.py": spy,
            "usercustomize.py": spy,
            "start.py": spy,
            "posix.py": spy,
            "sys.py": spy,
        },
        Environment={"Variables": {"PYTHONPATH": "/var/task", "PYTHONSTARTUP": "/var/task/start.py"}},
    )

    answer = platform.client().invoke(FunctionName=name, Payload=b"{}")

    seen = json.loads(json.loads(answer["Payload"].read()))
    assert seen["handler"] == "app.handler"
    assert seen["fds"] == ["/dev/null", "/run/lambdock/log", "/run/lambdock/log"]
