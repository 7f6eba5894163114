"""Files without a name (O_TMPFILE), and the two ways to give them one."""
import os
import stat
import tempfile

from common import raw, show

CWD, EMPTY_PATH, FOLLOW = -100, 0x1000, 0x400


def unnamed(flags=os.O_RDWR, where=".", mode=0o640):
    return os.open(where, os.O_TMPFILE | flags, mode)


def opened(*args, **kwargs):
    os.close(unnamed(*args, **kwargs))
    return "opened"


def by_descriptor(fd, name):
    return raw("linkat", fd, b"", CWD, name.encode(), EMPTY_PATH)


def by_proc(fd, name):
    return raw("linkat", CWD, f"/proc/self/fd/{fd}".encode(), CWD, name.encode(), FOLLOW)


def look(fd):
    status = os.fstat(fd)
    return oct(status.st_mode), status.st_nlink, status.st_size


def content(name):
    with open(name, "rb") as file:
        return file.read()


os.umask(0o022)
os.mkdir("sub")
with open("file", "w") as file:
    file.write("x")

for way in (by_descriptor, by_proc):
    for index, where in enumerate((".", "sub")):
        name = f"{way.__name__}{index}"
        label = f"{way.__name__} from {where}:"
        fd = unnamed(where=where, mode=0o666)
        show(f"{label} new", lambda: look(fd))
        show(f"{label} write", lambda: os.write(fd, b"hello " * 3000))
        show(f"{label} read", lambda: os.pread(fd, 12, 6))
        show(f"{label} resize", lambda: os.ftruncate(fd, 10000))
        show(f"{label} mode", lambda: os.fchmod(fd, 0o604))
        show(f"{label} look", lambda: look(fd))
        show(f"{label} names", lambda: sorted(os.listdir(where)))
        show(f"{label} name that is taken", lambda: way(fd, "file"))
        show(f"{label} name", lambda: way(fd, name))
        show(f"{label} look again", lambda: look(fd))
        show(f"{label} another name", lambda: way(fd, f"sub/{name}"))
        show(f"{label} the same", lambda: os.path.samefile(name, f"sub/{name}"))
        os.write(fd, b"tail")
        os.close(fd)
        show(f"{label} content", lambda: (len(content(name)), content(name)[:20], content(f"sub/{name}")[-4:]))
        show(f"{label} mode at last", lambda: oct(os.stat(name).st_mode))
        show(f"{label} taken away", lambda: os.unlink(name))
        show(f"{label} names left", lambda: os.stat(f"sub/{name}").st_nlink)

fd = unnamed(os.O_RDWR | os.O_EXCL)
for way in (by_descriptor, by_proc):
    show(f"exclusive, {way.__name__}", lambda: way(fd, "exclusive"))
os.close(fd)
fd = unnamed(os.O_WRONLY)
show("write only: write", lambda: os.write(fd, b"abc"))
show("write only: read", lambda: os.read(fd, 3))
os.close(fd)
fd = unnamed(os.O_RDWR | os.O_APPEND)
os.write(fd, b"one")
os.lseek(fd, 0, os.SEEK_SET)
os.write(fd, b"two")
show("append", lambda: os.pread(fd, 10, 0))
os.close(fd)
for label, call in (
    ("read only", lambda: opened(os.O_RDONLY)),
    ("in a file", lambda: opened(where="file")),
    ("nowhere", lambda: opened(where="missing")),
    ("with O_CREAT", lambda: opened(os.O_RDWR | os.O_CREAT)),
    ("without mode", lambda: opened(mode=0)),
):
    show(label, call)

with tempfile.TemporaryFile(dir=".") as file:
    file.write(b"z" * 100000)
    file.flush()
    show("Python's own", lambda: (look(file.fileno())[1:], sorted(os.listdir("."))))

many = [unnamed() for _ in range(50)]
for index, fd in enumerate(many):
    os.write(fd, str(index).encode())
show("fifty at once", lambda: [os.pread(fd, 10, 0) for fd in many] == [str(i).encode() for i in range(50)])
for fd in many:
    os.close(fd)
show("all names", lambda: sorted(os.listdir(".")) + sorted(os.listdir("sub")))
show("types", lambda: {stat.S_IFMT(os.lstat(f"sub/{name}").st_mode) for name in os.listdir("sub")})
