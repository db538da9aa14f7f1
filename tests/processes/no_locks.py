"""Has the system refuse locks on files, as it does for file systems that have none; Linux, for this process and others.

Python runs this file at its start under the name ``sitecustomize``. NO_LOCKS names the error, as ENOLCK.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBERS = {"x86_64": 73, "aarch64": 32}  # of the system call flock
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


class Program(ctypes.Structure):
    """A filter of system calls: instructions of (code: u16, jump if true and if false: u8, value: u32)."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_locks(number: int) -> None:
    """From now on ``flock`` fails with this error. Raises OSError where the system does not do such things."""
    if sys.platform != "linux" or platform.machine() not in NUMBERS:
        raise OSError(errno.ENOSYS, "not on this machine")
    code = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (LOAD, 0, 0, 0),  # the number of the call
            (JUMP_IF_EQUAL, 0, 1, NUMBERS[platform.machine()]),
            (RETURN, 0, 0, REFUSE | number),
            (RETURN, 0, 0, ALLOW),
        )
    )
    system = ctypes.CDLL(None, use_errno=True)
    program = Program(len(code) // 8, code)
    if system.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or system.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "no filter of system calls")


if name := os.environ.get("NO_LOCKS"):
    refuse_locks(getattr(errno, name))
