"""Ranges of files: fallocate(2), SEEK_DATA and SEEK_HOLE, copy_file_range(2), sendfile(2), and a mapping beside them."""
import mmap
import os

from common import fallocate, raw, show

KEEP, PUNCH, ZERO = 1, 2, 16


def content(name):
    """Length, and runs of 512-byte pieces that are one byte repeated."""
    with open(name, 'rb') as file:
        data = file.read()
    runs = []
    for i in range(0, len(data), 512):
        piece = data[i:i + 512]
        mark = piece[:1] if piece == piece[:1] * len(piece) else b'*'
        if runs and runs[-1][0] == mark:
            runs[-1][1] += 1
        else:
            runs.append([mark, 1])
    return len(data), runs


MAX = 2**63 - 1
os.mkdir('dir')
os.mkfifo('pipe')
f = os.open('f', os.O_RDWR | os.O_CREAT)
reader = os.open('f', os.O_RDONLY)
os.pread(f, 10, 0)
show('reserve', lambda: (fallocate(f, 0, 0, 10000), content('f'), os.stat('f').st_size, os.stat('f').st_blocks))
show('keep', lambda: (fallocate(f, KEEP, 100000, 50000), os.stat('f').st_size))
os.pwrite(f, b'a' * 65536, 0)
show('read', lambda: content('f'))
m = mmap.mmap(f, 65536) if os.environ.get('SHARED') else None
show('punch', lambda: (fallocate(f, PUNCH | KEEP, 8192, 16384), content('f'), os.stat('f').st_size))
if m:
    show('mapped', lambda: (m[8191:8194], m[24575:24578], sum(m[:])))
show('punch odd', lambda: (fallocate(f, PUNCH | KEEP, 30000, 2672), os.pread(f, 4, 29998), os.pread(f, 4, 32670)))
if m:
    m[9000:9004] = b'MMMM'
    show('written', lambda: (os.pread(f, 6, 8999), os.pread(reader, 6, 8999)))
show('zero', lambda: (fallocate(f, ZERO, 40000, 100), os.pread(f, 4, 39998), os.pread(f, 4, 40098)))
show('zero past', lambda: (fallocate(f, ZERO, 70000, 10000), os.stat('f').st_size, content('f')))
show('zero keep', lambda: (fallocate(f, ZERO | KEEP, 90000, 10000), os.stat('f').st_size))
show('punch past', lambda: (fallocate(f, PUNCH | KEEP, 1 << 30, 10000), os.stat('f').st_size))
for label, args in [
    ('punch alone', (f, PUNCH, 0, 1)),
    ('both', (f, PUNCH | ZERO | KEEP, 0, 1)),
    ('unknown', (f, 0x1000, 0, 1)),
    ('negative', (f, 0, -1, 1)),
    ('negative length', (f, 0, 0, -1)),
    ('nothing', (f, 0, 0, 0)),
    ('too far', (f, 0, MAX, 1)),
    ('too long', (f, 0, 1, MAX)),
    ('reader', (reader, 0, 0, 1)),
    ('bad descriptor', (999, 0, 0, 1)),
    ('reader and mode', (reader, 0x1000, 0, 1)),
    ('directory', (os.open('dir', os.O_RDONLY), 0, 0, 1)),
    ('pipe', (os.open('pipe', os.O_RDWR), 0, 0, 1)),
    ('device', (os.open('/dev/null', os.O_RDWR), 0, 0, 1)),
    ('path', (os.open('f', os.O_PATH), 0, 0, 1)),
    ('huge', (f, 0, 0, 1 << 50)),
]:
    show(label, lambda: fallocate(*args))
show('size', lambda: os.stat('f').st_size)

# Ranges taken out and put in: whole blocks, not at the end or past it.
COLLAPSE, INSERT, UNSHARE = 8, 32, 64
moving = os.open('moving', os.O_RDWR | os.O_CREAT)
os.pwrite(moving, b''.join(bytes([i]) * 4096 for i in range(16)) + b'tail', 0)
show('before', lambda: content('moving'))
moved = mmap.mmap(moving, 16 * 4096) if os.environ.get('SHARED') else None
if moved:
    show('mapped before', lambda: (moved[0], moved[5 * 4096], moved[15 * 4096]))
show('collapse', lambda: (fallocate(moving, COLLAPSE, 4096, 8192), content('moving'), os.fstat(moving).st_size))
if moved:
    show('mapped after', lambda: (moved[0], moved[4096], moved[5 * 4096], moved[13 * 4096]))
show('insert', lambda: (fallocate(moving, INSERT, 8192, 4096), content('moving'), os.fstat(moving).st_size))
if moved:
    show('mapped after', lambda: (moved[0], moved[4096], moved[8192], moved[3 * 4096]))
show('unshare', lambda: (fallocate(moving, UNSHARE, 0, 8192), content('moving')))
for label, mode, at, length in [
    ('collapse half a block', COLLAPSE, 100, 4096),
    ('collapse to the end', COLLAPSE, 4096, 1 << 20),
    ('collapse with a size', COLLAPSE | KEEP, 0, 4096),
    ('insert half a block', INSERT, 4096, 100),
    ('insert at the end', INSERT, 1 << 20, 4096),
    ('insert with a size', INSERT | KEEP, 0, 4096),
    ('insert too much', INSERT, 0, MAX - 4095),
    ('unshare past', UNSHARE | KEEP, 1 << 20, 4096),
    ('two', COLLAPSE | INSERT, 0, 4096),
]:
    show(label, lambda: fallocate(moving, mode, at, length))
show('after', lambda: content('moving'))
os.ftruncate(f, 0)
show('blocks after', lambda: (os.stat('f').st_blocks, content('f')))

# Holes.
h = os.open('holes', os.O_RDWR | os.O_CREAT)
os.ftruncate(h, 1 << 20)
os.pwrite(h, b'x' * 100, 200000)
os.pwrite(h, b'y' * 9000, 500000)
os.fsync(h)
for at in (0, 1, 196608, 200000, 200200, 262144, 500000, 600000, (1 << 20) - 1, 1 << 20, 1 << 30, -1):
    show('data %d' % at, lambda: os.lseek(h, at, os.SEEK_DATA))
    show('hole %d' % at, lambda: os.lseek(h, at, os.SEEK_HOLE))
    show('at', lambda: os.lseek(h, 0, os.SEEK_CUR))
show('whence', lambda: os.lseek(h, 0, 9))
empty = os.open('empty', os.O_RDWR | os.O_CREAT)
show('empty data', lambda: os.lseek(empty, 0, os.SEEK_DATA))
show('empty hole', lambda: os.lseek(empty, 0, os.SEEK_HOLE))

# Copies.
src = os.open('src', os.O_RDWR | os.O_CREAT)
dst = os.open('dst', os.O_RDWR | os.O_CREAT)
os.pwrite(src, bytes(range(256)) * 1000, 0)
os.pread(dst, 100, 0)
show('copy', lambda: (os.copy_file_range(src, dst, 100000, 0, 0), os.stat('dst').st_size, os.lseek(dst, 0, 1)))
show('copy on', lambda: (os.copy_file_range(src, dst, 1000), os.lseek(src, 0, 1), os.lseek(dst, 0, 1)))
show('copy end', lambda: os.copy_file_range(src, dst, 1 << 20, 255990, 7))
show('copy past', lambda: os.copy_file_range(src, dst, 1 << 20, 256000, 7))
show('copy none', lambda: os.copy_file_range(src, dst, 0, 0, 7))
show('copy self', lambda: os.copy_file_range(src, src, 100, 0, 50))
show('copy self apart', lambda: (os.copy_file_range(src, src, 100, 0, 300000), os.stat('src').st_size))
show('copy from writer', lambda: os.copy_file_range(os.open('src', os.O_WRONLY), dst, 10))
show('copy to reader', lambda: os.copy_file_range(src, os.open('dst', os.O_RDONLY), 10))
show('copy to appender', lambda: os.copy_file_range(src, os.open('dst', os.O_RDWR | os.O_APPEND), 10))
show('copy from directory', lambda: os.copy_file_range(os.open('.', os.O_RDONLY), dst, 10))
show('same', lambda: os.pread(src, 99999, 11) == os.pread(dst, 99999, 11))
show('send', lambda: (os.sendfile(dst, src, 5, 4000), os.lseek(dst, 0, 1)))
show('sync', lambda: (os.sync(), raw('syncfs', f), os.fsync(f), os.fdatasync(f)))
