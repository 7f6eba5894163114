"""Threads, thread pools, queues and asyncio."""

import asyncio
import concurrent.futures
import os
import queue
import signal
import socket
import tempfile
import threading
import time

from check import show


async def ticks(count):
    for i in range(count):
        await asyncio.sleep(0.01)
        yield i


async def main():
    loop = asyncio.get_running_loop()
    show("asyncio ticks", [i async for i in ticks(3)])
    show("gathered", await asyncio.gather(*(asyncio.sleep(0.01 * (5 - i), i) for i in range(5))))
    here = threading.get_ident()
    show("in a thread", await loop.run_in_executor(None, lambda: threading.get_ident() != here))
    reader, writer = os.pipe()
    readable = asyncio.Event()
    loop.add_reader(reader, readable.set)
    loop.call_later(0.02, os.write, writer, b"x")
    await asyncio.wait_for(readable.wait(), 20)
    loop.remove_reader(reader)
    show("readable", os.read(reader, 5))
    try:
        await asyncio.wait_for(asyncio.sleep(1000), 0.05)
    except asyncio.TimeoutError:
        show("timed out")
    signalled = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, signalled.set)
    os.kill(os.getpid(), signal.SIGUSR1)
    show("signalled", await asyncio.wait_for(signalled.wait(), 20))
    # Two ends of a stream in one loop.
    one, two = socket.socketpair()
    from_two, to_two = await asyncio.open_connection(sock=one)
    from_one, to_one = await asyncio.open_connection(sock=two)
    to_two.write(b"question\n")
    show("asked", await from_one.readline())
    to_one.write(b"answer" * 100000)
    to_one.close()
    show("answered", len(await from_two.read()))


asyncio.run(main())

with concurrent.futures.ThreadPoolExecutor(4) as pool:
    show("pool", sum(pool.map(lambda x: x * x, range(100))))

# Four threads read one open file: each record once.
with tempfile.TemporaryFile() as file:
    file.write(b"".join(b"%07d\n" % i for i in range(2000)))
    file.flush()
    os.lseek(file.fileno(), 0, 0)
    records = []

    def read_records():
        while record := os.read(file.fileno(), 8):
            records.append(record)

    threads = [threading.Thread(target=read_records) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    show("records", len(records), len(set(records)))

# A thread that only computes lets others run.
done = []
busy = [threading.Thread(target=lambda: done.append(sum(range(300000)))) for _ in range(4)]
[thread.start() for thread in busy]
[thread.join() for thread in busy]
show("computed", len(done), set(done))

work, results = queue.Queue(maxsize=2), queue.Queue()


def serve():
    while (item := work.get()) is not None:
        results.put(item * 2)


server = threading.Thread(target=serve)
server.start()
[work.put(i) for i in range(50)]
work.put(None)
server.join()
show("queue", sum(results.get() for _ in range(50)))

reader, writer = os.pipe()
heard = []
listener = threading.Thread(target=lambda: heard.append(os.read(reader, 5)))
listener.start()
time.sleep(0.05)
os.write(writer, b"hello")
listener.join()
show("heard", heard)
