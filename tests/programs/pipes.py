"""Pipes, socket pairs, event counters, and waiting for them by select, poll and epoll."""

import fcntl
import os
import select
import signal
import socket
import stat
import struct
import time

from check import show, tried

signal.signal(signal.SIGPIPE, signal.SIG_IGN)

reader, writer = os.pipe()
show("pipe", os.write(writer, b"abc"), os.read(reader, 10), stat.S_ISFIFO(os.fstat(reader).st_mode))
show("not seekable", tried(os.lseek, reader, 0, 0), tried(os.pread, reader, 1, 0), tried(os.fsync, reader))
os.set_blocking(reader, False)
os.set_blocking(writer, False)
show("empty", tried(os.read, reader, 1))
total = 0
while isinstance(count := tried(os.write, writer, b"x" * 4096), int):
    total += count
show("full", total, count, select.select([reader], [writer], [], 0) == ([reader], [], []))
show("bytes left", struct.unpack("i", fcntl.ioctl(reader, 0x541B, b"\0" * 4)))
poll = select.poll()
poll.register(reader, select.POLLIN)
poll.register(writer, select.POLLOUT)
show("poll", sorted(events for _, events in poll.poll(0)))
os.close(writer)
while os.read(reader, 65536):
    pass
poll = select.poll()
poll.register(reader, select.POLLIN)
show("hung up", poll.poll(0)[0][1], os.read(reader, 1), select.select([reader], [], [], 0)[0] == [reader])
reader, writer = os.pipe()
os.close(reader)
poll = select.poll()
poll.register(writer, select.POLLOUT)
show("no reader", tried(os.write, writer, b"x"), poll.poll(0)[0][1])

start = time.monotonic()
show("time limits", select.select([], [], [], 0.05), time.monotonic() - start >= 0.05, select.poll().poll(20))
alarms = []
signal.signal(signal.SIGALRM, lambda *_: alarms.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.05)
reader, writer = os.pipe()
# Python waits on after the handler: PEP 475.
show("select across a signal", select.select([reader], [], [], 0.3), alarms)

epoll = select.epoll()
epoll.register(reader, select.EPOLLIN)
show("epoll", epoll.poll(0), os.write(writer, b"z"), [events for _, events in epoll.poll(1)])
show("level", [events for _, events in epoll.poll(0)], tried(epoll.register, reader),
     tried(epoll.register, os.open("/etc", os.O_RDONLY)))
epoll.modify(reader, select.EPOLLIN | select.EPOLLONESHOT)
show("one shot", len(epoll.poll(0)), len(epoll.poll(0)), epoll.unregister(reader), tried(epoll.modify, reader, 1))
epoll.register(reader, select.EPOLLIN | select.EPOLLET)
show("edge", len(epoll.poll(0)), len(epoll.poll(0)), os.write(writer, b"q"), len(epoll.poll(0)))

counter = os.eventfd(3, os.EFD_NONBLOCK)
show("eventfd", os.eventfd_read(counter), tried(os.eventfd_read, counter), os.eventfd_write(counter, 7),
     os.eventfd_read(counter), tried(os.read, counter, 4))
counter = os.eventfd(2, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
show("semaphore", os.eventfd_read(counter), os.eventfd_read(counter), tried(os.eventfd_read, counter))

one, two = socket.socketpair()
show("socket pair", one.send(b"hey"), two.recv(10), stat.S_ISSOCK(os.fstat(one.fileno()).st_mode))
two.setblocking(False)
show("nothing there", tried(two.recv, 1))
one.shutdown(socket.SHUT_WR)
show("one way closed", two.recv(1), two.send(b"still"), one.recv(10))
one.close()
show("closed", tried(two.send, b"x"))
