"""Directories, links, renames, removals and attributes, in a new folder inside argument 1."""

import os
import stat
import sys
import tempfile

from check import show, tried

os.umask(0o022)
folder = tempfile.mkdtemp(dir=os.path.abspath(sys.argv[1]))
os.chdir(folder)
show("working directory", os.getcwd() == folder, os.path.realpath("/proc/self/cwd") == folder)


def write(name, text=b"text"):
    with open(name, "wb") as file:
        file.write(text)


write("a")
write("b")
show("mkdir", os.mkdir("d"), tried(os.mkdir, "d"), tried(os.mkdir, "no/d"), tried(os.mkdir, "a/d"))
show("wrong kinds", tried(os.open, "d", os.O_WRONLY), tried(os.rmdir, "a"), tried(os.unlink, "d"),
     tried(os.listdir, "a"), tried(os.rmdir, "d/."))
show("symlink", os.symlink("a", "s"), os.readlink("s"), tried(os.readlink, "a"), os.symlink("loop", "loop"),
     tried(os.stat, "loop"), os.symlink("no", "dangling"), tried(os.stat, "dangling"))
show("links in names", stat.S_ISLNK(os.lstat("s").st_mode), tried(os.open, "s", os.O_NOFOLLOW),
     os.stat("s").st_ino == os.stat("a").st_ino)
show("link", os.link("a", "d/l"), os.stat("a").st_nlink, tried(os.link, "a", "d/l"), tried(os.link, "d", "dd"))
show("rename", tried(os.rename, "d", "a"), tried(os.rename, "a", "d"), tried(os.rename, "no", "z"))
show("renamed", os.rename("d/l", "d/m"), os.listdir("d"), tried(os.rmdir, "d"), os.rename("d", "e"),
     sorted(os.listdir(".")), tried(os.rename, "e", "e/x"))
show("removed", os.unlink("e/m"), os.rmdir("e"), tried(os.unlink, "e"), os.stat("a").st_nlink)
os.unlink("a")

here = os.open(".", os.O_RDONLY)
show("a directory as a file", tried(os.read, here, 1), tried(os.write, here, b"x"), sorted(os.listdir(here)))
show("relative to it", tried(os.open, "b", 0, dir_fd=here) > 0, tried(os.stat, "b", dir_fd=os.open("b", 0)))
path = os.open("b", os.O_PATH)
show("O_PATH", tried(os.read, path, 1), os.fstat(path).st_size, tried(os.fchmod, path, 0o600),
     tried(os.ftruncate, path, 0))
show("chmod", os.chmod("b", 0o4751), oct(os.stat("b").st_mode), tried(os.chmod, "no", 1))
show("chown", os.chown("b", os.getuid(), -1), os.stat("b").st_uid == os.getuid(), tried(os.chown, "no", -1, -1))
show("utime", os.utime("b", ns=(1500000000123456789, -5)), os.stat("b").st_atime_ns, os.stat("b").st_mtime_ns)
show("utime of a link", os.utime("s", (1, 2), follow_symlinks=False), os.lstat("s").st_mtime)
show("utime now", os.utime("b"), os.stat("b").st_mtime > 1.6e9)
os.chmod("b", 0o640)
show("access", os.access("b", os.R_OK | os.W_OK), os.access("b", os.X_OK), os.access("no", os.F_OK))
show("odd names", tried(os.stat, ""), tried(os.stat, "b/"), tried(os.stat, "b/x"), tried(os.stat, "x" * 300),
     tried(os.stat, "x/" * 3000))
show("names as bytes", write(b"\xff\xfe \n"), b"\xff\xfe \n" in os.listdir(b"."), os.unlink(b"\xff\xfe \n"))
show("statvfs", os.statvfs(".").f_namemax, tried(os.statvfs, "no"))

os.mkdir("gone")
os.chdir("gone")
os.rmdir("../gone")
show("a removed working directory", tried(os.getcwd), tried(os.open, "n", os.O_CREAT))
os.chdir(folder)
show("fifo", os.mkfifo("fifo"), stat.S_ISFIFO(os.stat("fifo").st_mode),
     tried(os.open, "fifo", os.O_WRONLY | os.O_NONBLOCK))
reader = os.open("fifo", os.O_RDONLY | os.O_NONBLOCK)
writer = os.open("fifo", os.O_WRONLY)
show("through it", os.write(writer, b"k"), os.read(reader, 3))

for i in range(300):
    os.close(os.open(f"many{i}", os.O_CREAT))
show("many", len([entry for entry in os.scandir(".") if entry.name.startswith("many") and entry.is_file()]))
# Removing while listing must leave nothing out.
for entry in os.scandir("."):
    if entry.name.startswith("many"):
        os.unlink(entry.name)
show("kinds", sorted((entry.name, entry.is_file(follow_symlinks=False), entry.is_symlink())
                     for entry in os.scandir(".")))
show("the root", tried(os.mkdir, "/"), tried(os.rmdir, "/"), tried(os.unlink, "/"))
