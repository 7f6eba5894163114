"""System calls with arguments that are wrong, odd or at the edge, by number and without a C library between.

A line per call: what each attempt returned, or the name of its error. Not here, because the answer is the file system's
or the machine's own: the largest size of a file, moving a mount point, whether a closed descriptor above the table's
size counts as bad in select.
"""

import ctypes
import errno
import os
import tempfile

from check import show

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

NUMBERS = {
    "read": 0, "write": 1, "open": 2, "stat": 4, "fstat": 5, "poll": 7, "lseek": 8, "ioctl": 16, "pread64": 17,
    "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23, "dup2": 33,
    "sendfile": 40, "socket": 41, "connect": 42, "shutdown": 48, "socketpair": 53, "fcntl": 72, "flock": 73,
    "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "getcwd": 79, "chdir": 80, "fchdir": 81,
    "rename": 82, "mkdir": 83, "rmdir": 84, "link": 86, "unlink": 87, "symlink": 88, "readlink": 89,
    "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "utime": 132, "mknod": 133,
    "statfs": 137, "fstatfs": 138, "chroot": 161, "readahead": 187, "getxattr": 191, "fgetxattr": 193,
    "epoll_create": 213, "getdents64": 217, "fadvise64": 221, "epoll_wait": 232, "epoll_ctl": 233,
    "utimes": 235, "openat": 257, "fchownat": 260, "newfstatat": 262, "unlinkat": 263, "linkat": 265,
    "readlinkat": 267, "fchmodat": 268, "faccessat": 269, "ppoll": 271, "splice": 275, "sync_file_range": 277,
    "utimensat": 280, "fallocate": 285, "eventfd2": 290, "epoll_create1": 291, "dup3": 292,
    "pipe2": 293, "syncfs": 306, "renameat2": 316, "memfd_create": 319, "copy_file_range": 326, "preadv2": 327,
    "pwritev2": 328, "statx": 332, "close_range": 436, "openat2": 437, "faccessat2": 439,
}


def call(name, *arguments):
    """The result of a system call, or its error's name. Arguments that are not numbers are passed by address."""
    words = [ctypes.c_long(a if isinstance(a, int) else ctypes.addressof(a)) for a in arguments]
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *words)
    return result if result != -1 else errno.errorcode.get(ctypes.get_errno(), ctypes.get_errno())


def check(name, *attempts):
    show(name, *[call(name, *arguments) for arguments in attempts])


def text(string):
    return ctypes.create_string_buffer(string.encode())


def longs(*values):
    return (ctypes.c_long * len(values))(*values)


os.umask(0o022)
os.chdir(tempfile.mkdtemp(dir="/tmp"))
file = os.open("f", os.O_RDWR | os.O_CREAT)
os.write(file, b"0123456789" * 100)
folder, readonly, writeonly = os.open(".", os.O_RDONLY), os.open("f", os.O_RDONLY), os.open("f", os.O_WRONLY)
path = os.open("f", os.O_PATH)
reader, writer = os.pipe()
os.symlink("f", "l")
os.mkdir("dir")
FILE, LINK, DIRECTORY, MISSING, EMPTY = map(text, ("f", "l", "dir", "no", ""))

# Addresses where nothing is: near 0, and outside of what a program can have.
BAD, KERNEL = 8, 0x7000000000000000
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
# A flag of the *at calls that means nothing to those we give it.
UNKNOWN = 0x8000
F_GETPIPE_SZ, TCGETS, FIONREAD, FIONBIO, FIOCLEX, FIONCLEX = 1032, 0x5401, 0x541B, 0x5421, 0x5451, 0x5450

buffer = ctypes.create_string_buffer(65536)
start = ctypes.addressof(buffer)
vector = longs(start, 3, start + 10, 4, 0, 0, BAD, 5)
negative = longs(start, -1)
UTIME_NOW, UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
times, wrong_times = longs(5, UTIME_NOW, 6, UTIME_OMIT), longs(5, 2000000000, 6, 0)

check("read", (file, BAD, 10), (file, KERNEL, 10), (file, buffer, -1), (file, BAD, 0), (folder, buffer, 0),
      (writeonly, buffer, 1), (path, buffer, 1), (-1, buffer, 1), (readonly, buffer, 1 << 40))

check("write", (file, BAD, 10), (file, buffer, -1), (readonly, BAD, 1), (folder, buffer, 1), (file, BAD, 0),
      (writer, BAD, 5))

check("readv", (readonly, vector, 4), (readonly, vector, 1025), (readonly, vector, -1), (readonly, BAD, 1),
      (readonly, vector, 0), (readonly, negative, 1))
check("writev", (file, vector, 2))

check("preadv2", (file, vector, 2, -1, 0, 0), (file, vector, 2, 0, 0, 1 << 20), (file, vector, 2, -2, 0, 0))
check("pwritev2", (file, vector, 2, 0, 0, 0x10))

check("pwrite64", (file, buffer, 5, -1), (writer, buffer, 5, 0), (file, buffer, 5, 2**63 - 3))
check("pread64", (reader, buffer, 5, 0))

check("lseek", (file, 0, 5), (file, -1, 0), (reader, 0, 0), (folder, 0, 0), (file, 0, 0))

check("open", (BAD, 0, 0), (EMPTY, 0, 0), (DIRECTORY, 1, 0), (DIRECTORY, os.O_CREAT | os.O_RDWR, 0o644),
      (FILE, os.O_DIRECTORY, 0), (LINK, os.O_NOFOLLOW, 0), (text("f/"), 0, 0), (text("l/"), 0, 0),
      (text("no/"), os.O_CREAT, 0o644))
check("openat", (file, FILE, 0, 0), (999, FILE, 0, 0), (AT_FDCWD, MISSING, 0, 0))

check("openat2", (AT_FDCWD, FILE, BAD, 24), (AT_FDCWD, FILE, buffer, 8), (AT_FDCWD, FILE, longs(0, 0o777, 0), 24),
      (AT_FDCWD, FILE, longs(1 << 40, 0, 0), 24), (AT_FDCWD, FILE, longs(0, 0, 0, 1), 32))

check("stat", (BAD, buffer), (FILE, BAD))
check("fstat", (-1, buffer))
check("newfstatat", (AT_FDCWD, EMPTY, buffer, 0), (file, EMPTY, buffer, AT_EMPTY_PATH), (file, FILE, buffer, 0),
      (AT_FDCWD, FILE, buffer, UNKNOWN))
check("statx", (AT_FDCWD, FILE, 0, 0xfff, BAD), (AT_FDCWD, FILE, 0x6000, 0xfff, buffer),
      (AT_FDCWD, FILE, 0, 0x80000000, buffer), (file, EMPTY, AT_EMPTY_PATH, 0xfff, buffer))

check("access", (FILE, 8), (MISSING, 0))
check("faccessat", (AT_FDCWD, FILE, 4))
check("faccessat2", (AT_FDCWD, LINK, 4, 0x100), (AT_FDCWD, FILE, 4, UNKNOWN))

check("readlink", (FILE, buffer, 10), (LINK, buffer, 0), (LINK, buffer, -1), (LINK, BAD, 10), (DIRECTORY, buffer, 10))
check("readlinkat", (file, EMPTY, buffer, 10))
check("readlink", (text("l/"), buffer, 10))

check("getdents64", (file, buffer, 100), (folder, buffer, 10), (folder, BAD, 1000), (path, buffer, 10))

check("dup2", (file, -1), (file, 5000000))
check("dup3", (file, file, 0), (file, 60, 1), (999, 60, 0))
check("dup2", (999, 999))

check("fcntl", (file, 1, 0), (file, 999, 0), (path, 1, 0), (path, 4, 0), (file, F_GETPIPE_SZ, 0),
      (reader, F_GETPIPE_SZ, 0), (file, 0, -1), (file, 5, BAD))

check("close_range", (10, 5, 0), (500, 600, 8), (500, 600, 4))

check("mkdir", (BAD, 0), (text("/"), 0), (text("."), 0), (text(".."), 0), (text("n/"), 0o755))
check("mknod", (text("nd"), 0o40000, 0), (text("nx"), 0o120000, 0), (text("nf"), 0o10644, 0), (text("nr"), 0o644, 0),
      (text("q/"), 0o644, 0), (text("nz"), 0o170000, 0))

check("rmdir", (text("/"),), (text("."),), (text(".."),), (text("f"),), (text("l"),))
check("unlink", (text("."),), (text(".."),), (text("/"),), (text("dir/"),), (text("f/"),))
check("unlinkat", (AT_FDCWD, FILE, 1), (AT_FDCWD, DIRECTORY, 0), (AT_FDCWD, text("n"), 0x200))

check("rename", (FILE, text(".")), (FILE, text("..")), (text("."), FILE),
      (DIRECTORY, text("dir/x")), (FILE, text("g/")), (DIRECTORY, text("dir2/")))
check("renameat2", (AT_FDCWD, FILE, AT_FDCWD, LINK, 1), (AT_FDCWD, FILE, AT_FDCWD, LINK, 3),
      (AT_FDCWD, FILE, AT_FDCWD, LINK, 8), (AT_FDCWD, FILE, AT_FDCWD, LINK, 2), (AT_FDCWD, FILE, AT_FDCWD, LINK, 2),
      (AT_FDCWD, FILE, AT_FDCWD, MISSING, 2))

check("link", (DIRECTORY, text("x")), (FILE, text("hl")), (FILE, text("hl")), (MISSING, text("x")))
check("linkat", (AT_FDCWD, FILE, AT_FDCWD, text("h2"), UNKNOWN), (AT_FDCWD, LINK, AT_FDCWD, text("h3"), 0x400),
      (file, EMPTY, AT_FDCWD, text("h4"), AT_EMPTY_PATH))
check("symlink", (EMPTY, text("s")), (FILE, EMPTY), (FILE, LINK), (FILE, text("s1/")))

check("chmod", (MISSING, 0))
check("fchmod", (file, 0o7777777), (path, 0))
check("fchmodat", (AT_FDCWD, LINK, 0o640, 0))
check("chown", (FILE, -1, -1))
check("fchown", (path, 0, 0))
check("fchownat", (AT_FDCWD, FILE, -1, -1, UNKNOWN))
check("lchown", (LINK, 0, 0))

check("utimensat", (AT_FDCWD, FILE, times, 0), (AT_FDCWD, FILE, wrong_times, 0), (file, 0, times, 0),
      (AT_FDCWD, 0, times, 0), (file, 0, times, 0x100), (AT_FDCWD, FILE, BAD, 0), (AT_FDCWD, FILE, times, UNKNOWN),
      (path, 0, times, 0))
check("utimes", (FILE, longs(1, 1000000, 0, 0)))
check("utime", (FILE, BAD))

check("truncate", (FILE, -1), (DIRECTORY, 5), (MISSING, 5), (text("nf"), 5))
check("ftruncate", (file, -1), (readonly, 5), (folder, 5), (writer, 5))

check("fallocate", (file, 0, -1, 5), (file, 0, 0, 0), (readonly, 0, 0, 5), (writer, 0, 0, 5), (999, 0, 0, 5))

check("statfs", (MISSING, buffer), (FILE, BAD))
check("fstatfs", (path, buffer), (999, buffer))

check("fsync", (folder,))
check("fdatasync", (writer,))
check("sync_file_range", (file, 0, 0, 8), (file, -1, 0, 0), (writer, 0, 0, 0))
check("syncfs", (999,))
check("fadvise64", (writer, 0, 0, 0), (file, 0, 0, 9), (file, 0, -1, 0))
check("readahead", (folder, 0, 1), (writeonly, 0, 1))

check("sendfile", (file, reader, 0, 5), (readonly, file, 0, 5), (writer, file, BAD, 5), (writer, file, longs(-1), 5),
      (writer, file, 0, 0))

check("copy_file_range", (file, 0, file, 0, 5, 0), (file, 0, writer, 0, 5, 0), (file, 0, folder, 0, 5, 0),
      (file, 0, readonly, 0, 5, 0), (file, 0, writeonly, 0, 5, 1))

check("pipe", (BAD,))
check("pipe2", (buffer, 1), (buffer, 0o4000))

check("poll", (BAD, 1, 0), (buffer, 100000, 0), (0, 0, 0))
check("ppoll", (0, 0, longs(-1, 0), 0, 0), (0, 0, longs(0, 0), buffer, 4))
check("select", (-1, 0, 0, 0, 0), (5, BAD, 0, 0, 0))

check("epoll_create", (0,))
check("epoll_create1", (1,))
check("epoll_ctl", (file, 1, file, buffer))
check("epoll_wait", (file, buffer, 1, 0))

epoll = call("epoll_create1", 0)
check("epoll_ctl", (epoll, 1, file, buffer), (epoll, 1, epoll, buffer), (epoll, 9, reader, buffer),
      (epoll, 1, reader, BAD), (epoll, 3, reader, buffer), (epoll, 2, reader, buffer))
check("epoll_wait", (epoll, buffer, 0, 0), (epoll, BAD, 1, 0), (epoll, buffer, -1, 0))

check("eventfd2", (0, 8))

check("memfd_create", (BAD, 0), (text("x"*250), 0), (text("x"), 1 << 20))

check("flock", (file, 0), (file, 99), (path, 1), (999, 1), (file, 2), (file, 8))

check("socket", (99, 1, 0))
check("socketpair", (1, 99, 0, buffer), (1, 1, 99, buffer), (1, 1, 0, BAD))
check("connect", (file, buffer, 16), (999, buffer, 16))
check("shutdown", (file, 1))

check("getcwd", (buffer, 1), (BAD, 100), (buffer, 0))
check("chdir", (FILE,), (MISSING,))
check("fchdir", (file,), (path,))
check("chroot", (FILE,), (MISSING,))

check("getxattr", (FILE, text(""), buffer, 10), (MISSING, text("user.a"), buffer, 10), (FILE, BAD, buffer, 10))
check("fgetxattr", (999, text("user.a"), buffer, 1))

check("ioctl", (file, TCGETS, buffer), (999, TCGETS, buffer), (path, TCGETS, buffer), (file, FIONBIO, BAD),
      (file, FIOCLEX, 0))
check("fcntl", (file, 1, 0))
check("ioctl", (file, FIONCLEX, 0))
check("fcntl", (file, 1, 0))
check("ioctl", (folder, FIONREAD, buffer), (file, 0x12345, buffer))

check("splice", (reader, 0, file, 0, 5, 99), (file, 0, file, 0, 5, 0))
