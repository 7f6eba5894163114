"""One of several who change a file under a lock: contend.py KIND FILE TIMES adds 1 to the number in FILE, TIMES times.

Without the lock additions would be lost: the number is read, time passes, and it is written. KIND is flock, record or ofd."""

import fcntl
import os
import struct
import sys

F_OFD_SETLKW = 38


def locked(kind, fd, on):
    if kind == "flock":
        fcntl.flock(fd, fcntl.LOCK_EX if on else fcntl.LOCK_UN)
    elif kind == "record":
        fcntl.lockf(fd, fcntl.LOCK_EX if on else fcntl.LOCK_UN)
    else:
        kind = fcntl.F_WRLCK if on else fcntl.F_UNLCK
        fcntl.fcntl(fd, F_OFD_SETLKW, struct.pack("hhqqixxxx", kind, os.SEEK_SET, 0, 0, 0))


kind, name, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
for turn in range(times):
    fd = os.open(name, os.O_RDWR)
    locked(kind, fd, True)
    number = int(os.pread(fd, 20, 0))
    os.sched_yield()
    os.pwrite(fd, b"%020d" % (number + 1), 0)
    # Every second lock is given up by closing the file.
    if turn % 2:
        locked(kind, fd, False)
    os.close(fd)
print("done")
