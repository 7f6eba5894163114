"""Changes the tree it is in, made by tests/overlay.rs, in every way there is, and tells what it sees then.

On the host it runs in a copy of that tree, in the machine on an overlay over it.
"""

import ctypes
import hashlib
import mmap
import os
import stat

from check import show, tried

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.readdir.argtypes = libc.telldir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]

os.umask(0o022)


def content(name):
    with open(name, "rb") as file:
        return file.read()


def write(name, text, how="wb"):
    with open(name, how) as file:
        file.write(text)


def digest(name):
    return hashlib.sha256(content(name)).hexdigest()[:16]


def everything(top):
    """One line of sums over names, kinds, modes, links, sizes and content below a directory."""
    sums = hashlib.sha256()
    count = 0
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(files) + folders:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            facts = [path, oct(status.st_mode), status.st_uid, os.listxattr(path, follow_symlinks=False)]
            if stat.S_ISREG(status.st_mode):
                facts += [status.st_nlink, status.st_size, digest(path)]
            if stat.S_ISLNK(status.st_mode):
                facts.append(os.readlink(path))
            sums.update(repr(facts).encode())
            count += 1
    return count, sums.hexdigest()[:16]


show("before", *everything("."))
old = os.stat("big")

# Mappings made before the first change show it, and each other's.
file = open("big", "r+b")
before = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
private = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE)
shared = mmap.mmap(file.fileno(), 0)
private[8192:8196] = b"mine"
show("mapped", hashlib.sha256(before).hexdigest() == hashlib.sha256(content("big")).hexdigest())
os.pwrite(file.fileno(), b"written", 4096)
os.pwrite(file.fileno(), b"hidden", 8192)
shared[1_000_000:1_000_006] = b"shared"
show("after a write", before[4096:4103], private[4096:4103], shared[4096:4103], before[8192:8198], private[8192:8196])
show("after a store", os.pread(file.fileno(), 6, 1_000_000), before[1_000_000:1_000_006], private[1_000_000:1_000_006])
after = mmap.mmap(os.open("link to big", os.O_RDONLY), 0, prot=mmap.PROT_READ)
show("mapped later", after[4096:4103], after[1_000_000:1_000_006], hashlib.sha256(after).hexdigest()[:16])
show("the file", digest("big"), digest("hard"), os.stat("hard").st_ino == old.st_ino, os.stat("big").st_nlink)
os.ftruncate(file.fileno(), 5000)
show("cut", os.stat("hard").st_size, before[4096:4103], before[5000:5010], digest("big"))
os.ftruncate(file.fileno(), 20_000)
show("grown", digest("big"), content("big")[4990:] == shared[4990:20_000], os.stat("big").st_size)

show("append", write("small", b" and more", "ab"), content("small"))
show("truncate", write("cut", b""), content("cut"), os.stat("cut").st_size)
show("chmod", os.chmod("d/x", 0o4711), oct(os.stat("d/x").st_mode), content("d/x"))
show("times", os.utime("d/y", (5, 6)), os.stat("d/y").st_mtime, os.stat("d/y").st_size)
show("attributes", os.getxattr("small", "user.colour"), os.setxattr("small", "user.size", b"1"),
     sorted(os.listxattr("small")), os.removexattr("small", "user.colour"), os.listxattr("small"))

number = os.stat("d").st_ino
show("rename of a directory", tried(os.rename, "d", "moved/e"), tried(os.stat, "d"), sorted(os.listdir("moved/e")),
     os.stat("moved/e").st_ino == number, os.path.samefile("moved/e/..", "moved"), content("moved/e/deep/z"))
show("into itself", tried(os.rename, "moved", "moved/e/deep/moved"), tried(os.rmdir, "moved"))
show("over a directory", tried(os.rename, "many", "moved"), tried(os.rename, "empty", "moved/e/hollow"),
     tried(os.rename, "small", "moved"))
show("exchange", libc.renameat2(-100, b"moved", -100, b"small", 2), os.path.isdir("small"), os.path.isfile("moved"),
     libc.renameat2(-100, b"moved", -100, b"small", 2), libc.renameat2(-100, b"cut", -100, b"small", 1))

show("removed", os.unlink("cut"), tried(os.stat, "cut"), tried(os.unlink, "cut"), "cut" in os.listdir("."))
show("made again", write("cut", b"new"), content("cut"), "cut" in os.listdir("."))
show("link", os.link("moved/e/y", "y"), os.stat("y").st_nlink, os.unlink("moved/e/y"), os.stat("y").st_nlink,
     write("y", b"!", "r+b"), content("y"))
held = open("moved/e/x", "rb")
os.unlink("moved/e/x")
show("open without a name", held.read(), os.fstat(held.fileno()).st_nlink)
show("symbolic links", os.readlink("link to big"), os.unlink("link to big"), os.symlink("cut", "link to big"),
     content("link to big"))
show("fifo", os.mkfifo("fifo"), stat.S_ISFIFO(os.stat("fifo").st_mode), os.stat("fifo").st_nlink)

# A directory that is emptied, removed and made again is empty.
os.unlink("moved/e/deep/z")
show("opaque", os.rmdir("moved/e/deep"), os.mkdir("moved/e/deep"), os.listdir("moved/e/deep"))


def entries(directory):
    """The names from here on, each with the place before it."""
    while True:
        place = libc.telldir(directory)
        entry = libc.readdir(directory)
        if not entry:
            return
        yield place, ctypes.string_at(entry + 19).decode()


directory = libc.opendir(b"many")
places = {name: place for place, name in entries(directory) if name not in (".", "..")}
for index in range(0, 300, 3):
    os.unlink(f"many/n{index}")
for index in range(1, 300, 3):
    os.chmod(f"many/n{index}", 0o600)
for index in range(50):
    write(f"many/new{index}", b"")
left = {name for name in places if int(name[1:]) % 3}


def names_from(place):
    """Those of the names that were there before: a new one may be listed anywhere, and on ext4 a dot, too."""
    libc.seekdir(directory, place)
    return [name for _, name in entries(directory) if name in places]


order = names_from(places["n1"])
show("seekdir", len(places), order[0], len(order) == len(set(order)))
show("each name is where it was", all(names_from(places[name])[0] == name for name in left))
libc.closedir(directory)
show("listed", hashlib.sha256(repr(sorted(os.listdir("many"))).encode()).hexdigest()[:16])

show("statfs", os.statvfs(".").f_namemax, os.statvfs(".").f_bsize)
show("after", *everything("."))
