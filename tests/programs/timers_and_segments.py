"""timerfd_create(2) through read and epoll, and System V shared memory, by the C library's own functions."""

import ctypes
import errno
import os
import select
import struct
import time

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int]
libc.shmdt.argtypes = [ctypes.c_void_p]


def failure(result):
    return errno.errorcode[ctypes.get_errno()] if result in (-1, ctypes.c_void_p(-1).value) else "ok"


def settime(fd, first, interval):
    spec = struct.pack("qqqq", 0, interval, 0, first)
    return libc.timerfd_settime(fd, 0, spec, None)


def timer():
    fd = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.read(fd, 8)
    except BlockingIOError:
        print("not armed: nothing to read")
    began, count = time.monotonic(), 0
    settime(fd, 5_000_000, 5_000_000)
    poll = select.epoll()
    poll.register(fd, select.EPOLLIN)
    while count < 20:
        poll.poll()
        count += struct.unpack("Q", os.read(fd, 8))[0]
    # The last of twenty expirations cannot come before its time.
    print("expired twenty times, not too early:", time.monotonic() - began >= 0.0999)
    settime(fd, 1, 0)
    poll.poll()
    print("once:", struct.unpack("Q", os.read(fd, 8))[0])
    print("disarmed by expiring:", poll.poll(0.02))
    print("wrong clock:", failure(libc.timerfd_create(time.CLOCK_PROCESS_CPUTIME_ID, 0)))
    print("wrong flags:", failure(libc.timerfd_create(time.CLOCK_MONOTONIC, 1)))
    print("not a timer:", failure(settime(0, 1, 0)))


def segment():
    create, remove = 0o1000, 0
    print("no such key:", failure(libc.shmget(0x5A5A1234, 10, 0)))
    print("no size:", failure(libc.shmget(0, 0, create | 0o600)))
    number = libc.shmget(0, 10000, create | 0o600)
    first, second = libc.shmat(number, None, 0), libc.shmat(number, None, 0)
    ctypes.memmove(first + 9000, b"shared", 6)
    print("seen through the other mapping:", ctypes.string_at(second + 9000, 6))
    print("removed while attached:", failure(libc.shmctl(number, remove, None)))
    ctypes.memmove(second + 4096, b"still", 5)
    print("still there:", ctypes.string_at(first + 4096, 5))
    print("detached:", failure(libc.shmdt(first)), failure(libc.shmdt(second)))
    print("detached twice:", failure(libc.shmdt(first)))
    print("gone with its last mapping:", failure(libc.shmat(number, None, 0)))


timer()
segment()
