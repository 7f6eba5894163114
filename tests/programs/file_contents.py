"""Reading, writing, seeking, cutting and describing open files, in a new folder inside argument 1."""

import fcntl
import mmap
import os
import struct
import sys
import tempfile

from check import show, tried

os.umask(0o022)
folder = tempfile.mkdtemp(dir=os.path.abspath(sys.argv[1]))
os.chdir(folder)
show("umask", oct(os.umask(0o027)), oct(os.umask(0o022)))

file = os.open("a", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
show("exclusive", tried(os.open, "a", os.O_CREAT | os.O_EXCL))
show("write", os.write(file, b"hello world"), os.lseek(file, 0, 1))
show("read", os.lseek(file, -5, 2), os.read(file, 100), os.read(file, 1))
show("seek", tried(os.lseek, file, -1, 0), os.lseek(file, 3, os.SEEK_DATA), os.lseek(file, 3, os.SEEK_HOLE),
     tried(os.lseek, file, 11, os.SEEK_DATA), tried(os.lseek, file, 0, 9))
show("pread", os.pread(file, 5, 6), os.pwrite(file, b"W", 6), os.pread(file, 100, 0), tried(os.pread, file, 1, -1))
show("preadv", os.preadv(file, [bytearray(3), bytearray(3)], 1), os.pwritev(file, [b"ab", b"cd"], 9),
     os.pread(file, 100, 0))
show("stat", oct(os.fstat(file).st_mode), os.fstat(file).st_size, os.fstat(file).st_nlink)

fcntl.fcntl(file, fcntl.F_SETFL, os.O_APPEND)
os.lseek(file, 0, 0)
os.write(file, b"!")
show("append", os.pread(file, 100, 0), os.lseek(file, 0, 1), oct(fcntl.fcntl(file, fcntl.F_GETFL)))
# Linux appends even then: pwrite(2), BUGS.
show("pwrite appends", os.pwrite(file, b"?", 0), os.pread(file, 100, 0))
fcntl.fcntl(file, fcntl.F_SETFL, 0)

copy = os.dup(file)
os.lseek(file, 2, 0)
show("a copy shares its place", os.lseek(copy, 0, 1))
show("dup2", os.dup2(file, 77), tried(os.dup2, 999, 78), fcntl.fcntl(file, fcntl.F_DUPFD, 50) >= 50,
     tried(fcntl.fcntl, file, fcntl.F_DUPFD, -1))
show("descriptor flags", fcntl.fcntl(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 60), fcntl.F_GETFD),
     fcntl.fcntl(77, fcntl.F_GETFD))
show("no such descriptor", tried(os.read, 999, 1), tried(os.write, 999, b"x"), tried(os.fstat, 999),
     tried(os.close, 999), tried(os.lseek, 999, 0, 0))
readonly = os.open("a", os.O_RDONLY)
show("read-only", tried(os.write, readonly, b"x"), tried(os.ftruncate, readonly, 0))
show("truncate", os.ftruncate(file, 4), os.pread(file, 9, 0), os.ftruncate(file, 8), os.pread(file, 9, 0),
     tried(os.ftruncate, file, -1), tried(os.truncate, "no", 0), tried(os.truncate, ".", 0))

os.unlink("a")
show("unlinked", os.fstat(file).st_nlink, os.pread(file, 4, 0),
     os.readlink(f"/proc/self/fd/{file}") == folder + "/a (deleted)")

big = os.open("big", os.O_RDWR | os.O_CREAT)
os.lseek(big, 1 << 33, 0)
os.write(big, b"end")
show("sparse", os.fstat(big).st_size, os.fstat(big).st_blocks < 100, os.pread(big, 3, 1 << 32))
os.ftruncate(big, 0)
os.lseek(big, 0, 0)

memory = os.memfd_create("memory")
os.write(memory, b"memory")
show("memfd", os.pread(memory, 10, 0), os.readlink(f"/proc/self/fd/{memory}"), oct(os.fstat(memory).st_mode),
     os.fstat(memory).st_nlink)
mapped = mmap.mmap(memory, 6)
mapped[0:1] = b"M"
show("mapped", mapped[:], os.pread(memory, 6, 0))
show("sendfile", os.sendfile(big, memory, 0, 100), os.pread(big, 10, 0))

other = os.open("big", os.O_RDWR)
show("flock", fcntl.flock(big, fcntl.LOCK_EX), tried(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB),
     fcntl.flock(big, fcntl.LOCK_UN), tried(fcntl.flock, other, fcntl.LOCK_EX | fcntl.LOCK_NB))
question = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)
show("record locks of one process do not collide", fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB),
     tried(fcntl.lockf, big, fcntl.LOCK_EX | fcntl.LOCK_NB),
     struct.unpack_from("h", fcntl.fcntl(other, fcntl.F_GETLK, question)) == (fcntl.F_UNLCK,))
show("no terminal", tried(os.ttyname, memory), os.isatty(memory), tried(fcntl.ioctl, memory, 0x5401, b"\0" * 60))
show("bytes left", struct.unpack("i", fcntl.ioctl(other, 0x541B, b"\0" * 4)))

null, zero = os.open("/dev/null", os.O_RDWR), os.open("/dev/zero", 0)
show("null", os.write(null, b"x" * 10), os.read(null, 10), oct(os.fstat(null).st_mode), os.fstat(null).st_rdev)
show("zero", os.read(zero, 4))
show("full", tried(os.write, os.open("/dev/full", 1), b"x"))
show("urandom", len(os.read(os.open("/dev/urandom", 0), 100)))
