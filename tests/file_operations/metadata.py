"""Attributes, set-user-id bits, groups that are handed on, names and locks: chmod(2), chown(2), utimensat(2), rename(2), flock(2)."""
import ctypes
import fcntl
import os
import struct
import time

from common import fallocate, raw, show

def look(name, follow=True):
    s = os.stat(name, follow_symlinks=follow)
    return oct(s.st_mode), s.st_uid, s.st_gid, s.st_size, s.st_nlink


def times(name, follow=True):
    s = os.stat(name, follow_symlinks=follow)
    return s.st_atime_ns, s.st_mtime_ns


NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2


class Time(ctypes.Structure):
    _fields_ = [('sec', ctypes.c_long), ('nsec', ctypes.c_long)]


def utimens(name, a, b, flags=0, fd=-100):
    return raw('utimensat', fd, name, ctypes.byref((Time * 2)(Time(*a), Time(*b))), flags)


open('f', 'w').close()
os.mkdir('dir')
os.symlink('f', 'link')
os.symlink('nowhere', 'dangling')
os.mkfifo('pipe')
os.umask(0)
for exact in ((1, 1), (1234567890, 123456789), (2**31 + 5, 999999999), (-1, 5), (0, 0), (2**33, 7)):
    show('times %s' % (exact,), lambda: (utimens(b'f', exact, (exact[0] + 1, 3)), times('f')))
show('omit one', lambda: (utimens(b'f', (0, OMIT), (77, 78)), times('f')))
show('omit other', lambda: (utimens(b'f', (55, 56), (0, OMIT)), times('f')))
show('omit both', lambda: (utimens(b'f', (9, OMIT), (9, OMIT)), times('f')))
show('omit both of nothing', lambda: utimens(b'nope', (0, OMIT), (0, OMIT)))
show('now', lambda: (utimens(b'f', (0, NOW), (5, 6)), abs(times('f')[0] / 1e9 - time.time()) < 5, times('f')[1]))
show('now both', lambda: (utimens(b'f', (0, NOW), (0, NOW)), times('f')[0] == times('f')[1]))
for bad in ((0, -1), (0, 10**9), (0, 2**40)):
    show('bad %s' % (bad,), lambda: utimens(b'f', bad, (0, 0)))
show('link itself', lambda: (utimens(b'link', (11, 12), (13, 14), 0x100), times('link', False)))
show('dangling', lambda: utimens(b'dangling', (1, 1), (1, 1)))
show('dangling itself', lambda: (utimens(b'dangling', (1, 2), (3, 4), 0x100), times('dangling', False)))
show('bad flag', lambda: utimens(b'f', (1, 1), (1, 1), 0x40000000))
show('directory', lambda: (utimens(b'dir', (21, 22), (23, 24)), times('dir')))
fd = os.open('f', os.O_RDONLY)
show('by descriptor', lambda: (utimens(None, (31, 32), (33, 34), 0, fd), times('f')))
show('by descriptor with flag', lambda: utimens(None, (31, 32), (33, 34), 0x100, fd))
show('by no descriptor', lambda: utimens(None, (31, 32), (33, 34), 0, 999))
show('ctime moves', lambda: os.stat('f').st_ctime_ns > 10**18)


# Who takes set-user-id and set-group-id bits away.
def fresh(mode):
    if os.path.lexists('s'):
        os.unlink('s')
    with open('s', 'w') as file:
        file.write('text')
    os.chmod('s', mode)


changes = [
    ('chown', lambda: os.chown('s', 5, 6)),
    ('chown to itself', lambda: os.chown('s', 0, 0)),
    ('chown nothing', lambda: os.chown('s', -1, -1)),
    ('chgrp', lambda: os.chown('s', -1, 7)),
    ('write', lambda: open('s', 'r+').write('x')),
    ('truncate', lambda: os.truncate('s', 1)),
    ('open truncating', lambda: open('s', 'w').close()),
    ('fallocate', lambda: fallocate(os.open('s', os.O_RDWR), 0, 0, 9000)),
]
for mode in (0o6755, 0o4755, 0o2755, 0o2745, 0o6644, 0o7777):
    for what, change in changes:
        fresh(mode)
        os.stat('s')
        show('%o %s' % (mode, what), lambda: (change(), look('s')))
    fresh(mode)
    show('fchmod', lambda: (os.fchmod(os.open('s', os.O_RDONLY), 0o1234), look('s')))
show('chmod link', lambda: (os.chmod('link', 0o600), look('f')))
show('chmod link itself', lambda: raw('syscall', 452, -100, b'link', 0o600, 0x100))
show('lchown', lambda: (os.lchown('link', 3, 4), look('link', False), look('f')))
show('chown dangling', lambda: os.chown('dangling', 1, 1))
show('lchown dangling', lambda: (os.lchown('dangling', 1, 1), look('dangling', False)))
show('chmod bits', lambda: (os.chmod('f', 0o17777), look('f')))
show('chmod nothing', lambda: os.chmod('nope', 0o600))
show('chmod by path fd', lambda: os.fchmod(os.open('f', os.O_PATH), 0o600))

# Directories that hand their group on.
os.mkdir('group')
os.chown('group', 0, 42)
os.chmod('group', 0o2775)
show('in group', lambda: (os.close(os.open('group/file', os.O_CREAT | os.O_WRONLY, 0o2755)), look('group/file')))
show('in group directory', lambda: (os.mkdir('group/sub', 0o755), look('group/sub')))
show('in group link', lambda: (os.symlink('x', 'group/link'), look('group/link', False)))
show('in group fifo', lambda: (os.mkfifo('group/fifo', 0o644), look('group/fifo')))
for mask in (0o022, 0o077, 0o777):
    os.umask(mask)
    for kind, make in [
        ('file', lambda name: os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o6777))),
        ('dir', lambda name: os.mkdir(name, 0o1777)),
        ('fifo', lambda name: os.mkfifo(name, 0o666)),
    ]:
        name = 'm%o%s' % (mask, kind)
        show('mask %o %s' % (mask, kind), lambda: (make(name), look(name)))
os.umask(0)
os.mkdir('sticky')
os.chmod('sticky', 0o1777)
open('sticky/f', 'w').close()
os.chown('sticky/f', 9, 9)
show('sticky', lambda: (look('sticky'), os.rename('sticky/f', 'sticky/g'), os.unlink('sticky/g')))

# Names.
long = 'n' * 255
show('long name', lambda: (open(long, 'w').close(), os.stat(long).st_size, os.unlink(long)))
show('too long', lambda: open(long + 'n', 'w'))
show('path too long', lambda: os.stat('x/' * 2048))
os.symlink('loop', 'loop')
show('loop', lambda: os.stat('loop'))
show('open loop', lambda: open('loop'))
show('nofollow', lambda: os.open('link', os.O_RDONLY | os.O_NOFOLLOW))
show('directory flag', lambda: os.open('f', os.O_RDONLY | os.O_DIRECTORY))
show('write directory', lambda: os.open('dir', os.O_WRONLY))
show('excl', lambda: os.open('f', os.O_CREAT | os.O_EXCL))
show('excl link', lambda: os.open('dangling', os.O_CREAT | os.O_EXCL))
show('trunc', lambda: (open('f', 'w').write('12345'), os.close(os.open('f', os.O_RDONLY | os.O_TRUNC)), look('f')))
fd = os.open('gone', os.O_CREAT | os.O_RDWR)
os.write(fd, b'still here')
show('unlinked', lambda: (os.unlink('gone'), os.pread(fd, 100, 0), os.write(fd, b'!'), os.fstat(fd).st_nlink, os.fstat(fd).st_size, os.ftruncate(fd, 3), os.pread(fd, 10, 0), os.fchmod(fd, 0o600)))
show('exchange', lambda: (open('e1', 'w').write('one'), open('e2', 'w').write('two!'), raw('renameat2', -100, b'e1', -100, b'e2', 2), look('e1'), look('e2')))
show('noreplace', lambda: raw('renameat2', -100, b'e1', -100, b'e2', 1))
show('exchange nothing', lambda: raw('renameat2', -100, b'e1', -100, b'nope', 2))
show('rename into itself', lambda: os.rename('dir', 'dir/sub'))
show('rename onto full', lambda: os.rename('dir', 'group'))
show('rename file onto dir', lambda: os.rename('f', 'dir'))
show('link', lambda: (os.link('f', 'hard'), look('f'), os.unlink('hard'), look('f')))
show('link directory', lambda: os.link('dir', 'hard'))
show('link symlink', lambda: (os.link('link', 'hard', follow_symlinks=False), look('hard', False)))
show('rmdir full', lambda: os.rmdir('group'))
show('rmdir file', lambda: os.rmdir('f'))
show('unlink directory', lambda: os.unlink('dir'))
show('mknod', lambda: (os.mknod('node', 0o100600), look('node')))

# Locks.
a, b = os.open('f', os.O_RDWR), os.open('f', os.O_RDWR)
NB = fcntl.LOCK_NB
show('flock', lambda: (fcntl.flock(a, fcntl.LOCK_EX), fcntl.flock(a, fcntl.LOCK_EX | NB)))
show('flock other', lambda: fcntl.flock(b, fcntl.LOCK_SH | NB))
show('flock down', lambda: (fcntl.flock(a, fcntl.LOCK_SH), fcntl.flock(b, fcntl.LOCK_SH | NB)))
show('flock up', lambda: fcntl.flock(a, fcntl.LOCK_EX | NB))
show('flock free', lambda: (fcntl.flock(b, fcntl.LOCK_UN), fcntl.flock(a, fcntl.LOCK_EX | NB)))
show('flock nonsense', lambda: fcntl.flock(a, 77))
show('flock path', lambda: fcntl.flock(os.open('f', os.O_PATH), fcntl.LOCK_EX))


def lock(fd, command, kind, start, length):
    reply = fcntl.fcntl(fd, command, struct.pack('hhqqixxxx', kind, 0, start, length, 0))
    return struct.unpack('hhqqixxxx', reply)


GET, SET = 36, 37
show('ofd', lambda: lock(a, SET, fcntl.F_WRLCK, 10, 20))
show('ofd other', lambda: lock(b, SET, fcntl.F_RDLCK, 29, 1))
show('ofd get', lambda: lock(b, GET, fcntl.F_WRLCK, 0, 0))
show('ofd beside', lambda: lock(b, SET, fcntl.F_WRLCK, 30, 0))
show('ofd split', lambda: (lock(a, SET, fcntl.F_UNLCK, 15, 5), lock(b, SET, fcntl.F_WRLCK, 15, 5)))
show('ofd back', lambda: lock(b, SET, fcntl.F_RDLCK, 5, -6))
show('posix', lambda: (fcntl.lockf(a, fcntl.LOCK_EX | NB, 5, 500), fcntl.lockf(b, fcntl.LOCK_EX | NB, 5, 500)))
