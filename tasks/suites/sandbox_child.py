"""The process within sandbox.py: drops its rights, then runs the program that it reads from standard input.

Run as a script with the standard library alone; importing it does nothing. It does not report that the program passed, because
the program can change anything in this process: sandbox.py determines that from outside (see `main`).
"""

from __future__ import annotations

import _thread
import ctypes
import json
import operator
import os
import platform
import signal
import struct
import sys
from collections import deque
from functools import partial
from itertools import repeat
from types import MethodType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBERS: dict[str, tuple[int | None, int | None]] = {
    # name: (x86_64, aarch64)
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "sendmsg": (46, 211),
    "sendmmsg": (307, 269), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434), "pidfd_getfd": (438, 438),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "process_madvise": (440, 440),
    "setsid": (112, 157), "setpgid": (109, 154), "setpriority": (141, 140), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "add_key": (248, 217), "request_key": (249, 218),
    "keyctl": (250, 219), "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "ioprio_set": (251, 30), "kcmp": (312, 272), "process_mrelease": (448, 448), "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88), "truncate": (76, 45),
}  # fmt: skip
"""Refused system calls: they reach beyond the process, and no program here needs them."""
OWN: dict[str, tuple[int | None, int | None]] = {
    "prlimit64": (302, 261), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119), "sched_setparam": (142, 118),
    "sched_setattr": (314, 274), "migrate_pages": (256, 238), "move_pages": (279, 239),
}  # fmt: skip
"""System calls whose first argument names a process; allowed for 0, which is the caller."""
SENDTO = (44, 206)
"""Numbers of `sendto`, allowed without an address: that is `send` on a pair of sockets, with which asyncio wakes its loop."""
WRITES: dict[str, tuple[int | None, int | None]] = {
    "creat": (85, None), "openat2": (437, 437), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None),
    "mknodat": (259, 33),
}  # fmt: skip
"""System calls that change a file system, refused where the kernel cannot confine them to a folder."""
MACHINES = {"x86_64": (0, 0xC000003E, 2, 257, 56), "aarch64": (1, 0xC00000B7, None, 56, 220)}
"""Machine: its column above, audit architecture, and the numbers of open, openat and clone."""
CLONE3 = 435
CLONE_THREAD = 0x10000
OPEN_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
LOAD, JUMP_EQUAL, JUMP_AT_LEAST, JUMP_ANY, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
WRITE_FILE = 1 << 1
WRITE_ACCESS = sum((WRITE_FILE, *(1 << bit for bit in range(4, 13))))
"""Landlock: write a file, remove and make anything."""

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """The result of a C call. Raises OSError where it failed."""
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def landlock_version() -> int:
    """The kernel's version of the Landlock interface; 0 where it has none."""
    return max(0, int(libc.syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def write_only_below(folder: str, version: int) -> None:
    """From here on, files can be written, made and removed in `folder` alone; what is written to /dev/null is discarded."""
    truncate = 1 << 14 if version >= 3 else 0
    access = WRITE_ACCESS | truncate
    attributes = struct.pack("=Q", access)
    rules = check(libc.syscall(444, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)), "landlock")
    for path, allowed in ((folder, access), (os.devnull, WRITE_FILE | truncate)):
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
        check(libc.syscall(445, rules, 1, struct.pack("=Qi", allowed, at), 0), "landlock rule")
        os.close(at)
    check(libc.syscall(446, rules, 0), "landlock")
    os.close(rules)


def drop_rights() -> None:
    """Drop all capabilities, and set no_new_privs, so that no executed program gets them back. Raises OSError."""
    check(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
    header, none = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", *[0] * 6)
    check(libc.capset(header, none), "capset")


def install_filter(*, writes: bool) -> None:
    """Refuse NUMBERS, new processes and, unless `writes`, system calls that change a file. Raises OSError, or KeyError for a
    machine that is not in MACHINES."""
    column, architecture, open_, openat, clone = MACHINES[platform.machine()]
    refused = [row[column] for row in (*NUMBERS.values(), *(() if writes else WRITES.values()))]
    deny, missing = (RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ERRNO | ENOSYS)
    steps = [(LOAD, 0, 0, 4), (JUMP_EQUAL, 1, 0, architecture), deny, (LOAD, 0, 0, 0)]
    steps += [(JUMP_AT_LEAST, 0, 1, 0x40000000), deny]
    steps += [(JUMP_EQUAL, 0, 1, CLONE3), missing]
    for number in refused:
        if number is not None:
            steps += [(JUMP_EQUAL, 0, 1, number), deny]
    for numbers in OWN.values():
        if (number := numbers[column]) is not None:
            steps += [(JUMP_EQUAL, 0, 4, number), (LOAD, 0, 0, 16), (JUMP_EQUAL, 0, 1, 0), (RETURN, 0, 0, ALLOW), deny]
    address = (LOAD, 0, 0, 48), (JUMP_EQUAL, 0, 3, 0), (LOAD, 0, 0, 52), (JUMP_EQUAL, 0, 1, 0)
    steps += [(JUMP_EQUAL, 0, 6, SENDTO[column]), *address, (RETURN, 0, 0, ALLOW), deny]
    # A clone that makes no thread makes a process.
    steps += [(JUMP_EQUAL, 0, 4, clone), (LOAD, 0, 0, 16), (JUMP_ANY, 1, 0, CLONE_THREAD), deny, (RETURN, 0, 0, ALLOW)]
    if not writes:
        for number, flags_at in ((open_, 24), (openat, 32)):
            if number is not None:
                steps += [(JUMP_EQUAL, 0, 4, number), (LOAD, 0, 0, flags_at), (JUMP_ANY, 0, 1, OPEN_WRITES), deny]
                steps += [(RETURN, 0, 0, ALLOW)]
    steps += [(RETURN, 0, 0, ALLOW)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    check(libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0), "seccomp")


def limit(memory_bytes: int, time_s: float) -> None:
    """Limit memory, processor seconds, the size of files and how many are open."""
    import resource

    for what, most in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, int(time_s) + 2),
        (resource.RLIMIT_FSIZE, 2**24),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def contain(folder: str | None) -> bool:
    """Allow writing in `folder` alone (None: nowhere), and no system call above; whether `folder` is writable. Raises OSError."""
    drop_rights()
    version = 0 if folder is None else landlock_version()
    if folder is not None and version:
        write_only_below(folder, version)
    install_filter(writes=bool(version))
    return bool(version)


def out_of_time(*_: Any) -> None:
    """Handler of SIGALRM: raises TimeoutError in the program."""
    raise TimeoutError("time is up")


def without_effect(real: Callable[..., None], folder: str) -> Callable[..., None]:
    """`os.chmod` or `os.utime`, which the kernel cannot confine to `folder`: done nowhere, and no error within it, so that
    `shutil.copy` works there."""

    def call(path: Any, *args: Any, **options: Any) -> None:
        named = isinstance(path, str | bytes | os.PathLike) and options.get("dir_fd") is None
        if named and f"{os.path.realpath(os.fsdecode(path))}/".startswith(f"{folder}/"):
            os.lstat(path)  # raises where there is no such file
            return
        real(path, *args, **options)

    return call


def unless_none(real: Callable[[Any], None]) -> Callable[[Any], None]:
    """`sys.settrace` or `sys.setprofile`, which are refused, without effect for None: doctest ends so."""
    return lambda function: None if function is None else real(function)


def namespace(name: str | None) -> dict[str, Any]:
    """The program's names. With a name they are those of a module that can be imported, in which pickle finds its classes, and
    modules in its folder can be, as under `python -c`."""
    if name is None:
        return {}
    sys.path.insert(0, "")
    sys.modules[name] = module = ModuleType(name)
    return module.__dict__


def run(program: str, names: dict[str, Any], answer: int) -> None:
    """Run the program; where it raises, write the reason to `answer` and raise too. The program may have changed our names."""
    try:
        exec(compile(program, "<string>", "exec", dont_inherit=True), names)
    except BaseException as error:
        try:  # noqa: SIM105 - the program may have given contextlib another meaning
            tell(error, answer)
        except BaseException:  # noqa: BLE001
            pass
        raise


def tell(error: BaseException, answer: int) -> None:
    """Write why the program has not passed, in one line."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    words = "timed out" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {str(error)[:1000]}"
    os.write(answer, f"{' '.join(words.split())[:200]}\n".encode("ascii", "replace"))


def main() -> None:
    """Read the job, contain this process, run the program.

    What is done around the program is done by C code alone: it waits for a byte, runs the program, and waits for two, each time
    at the same depth of the C stack. The kernel shows that depth to sandbox.py. Code of the program always runs deeper, and it
    comes to the second wait only if the program returned.
    """
    if sys.argv[1:] == ["--probe"]:
        print(json.dumps({"landlock": contain(".")}))  # noqa: T201
        return
    job = json.loads(sys.stdin.buffer.readline())
    answer, control = os.dup(1), os.dup(0)
    nothing = os.open(os.devnull, os.O_RDWR)
    name = job["name"]
    for stream, to in ((0, nothing), (1, nothing if name is None else 2), (2, nothing if name is None else 2)):
        os.dup2(to, stream)
    limit(job["memory_bytes"], job["time_s"])
    if contain(job["folder"]):
        home = os.path.realpath(job["folder"])
        os.chmod, os.utime = without_effect(os.chmod, home), without_effect(os.utime, home)
    sys.settrace, sys.setprofile = unless_none(sys.settrace), unless_none(sys.setprofile)
    signal.signal(signal.SIGALRM, out_of_time)
    # The C library waits elsewhere in its code once a process has had a second thread, so there is one from the beginning.
    held = _thread.allocate_lock()
    held.acquire()
    _thread.start_new_thread(held.acquire, ())
    steps: tuple[partial[Any], ...] = (
        partial(os.read, control, 1),
        partial(signal.setitimer, signal.ITIMER_REAL, job["time_s"]),
        partial(run, job["program"], namespace(job["name"]), answer),
        partial(signal.setitimer, signal.ITIMER_REAL, 0),
        partial(os.read, control, 2),
    )
    # A trace function could jump in the frames around the program and change their variables; through the garbage collector
    # a program finds every object, this hook among them.
    sys.addaudithook(
        lambda event, _: (  # constants alone: the program may have given names another meaning
            event
            in (
                "sys.settrace",
                "sys.setprofile",
                "sys.monitoring.register_callback",
                "gc.get_objects",
                "gc.get_referrers",
                "gc.get_referents",
            )
            and ().refused  # type: ignore[attr-defined]
        )
    )
    # Where the program failed, no Python code may run in this thread any more, neither a signal handler nor an exception hook,
    # as it could run at any depth that the program chooses: the statement exits through C code that never returns.
    with type("Forever", (), {"__enter__": frozenset().copy, "__exit__": MethodType(frozenset().union, repeat(0))})():
        deque(map(operator.call, steps), 0)


if __name__ == "__main__":
    main()
