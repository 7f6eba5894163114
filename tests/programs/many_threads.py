# Two thousand threads at once, each with a stack of 8 MiB of which it uses little.
import threading

def wait(depth):
    if depth:
        return wait(depth - 1)
    everybody.wait()

everybody = threading.Barrier(2001)
threads = [threading.Thread(target=wait, args=(20,)) for _ in range(2000)]
for thread in threads:
    thread.start()
everybody.wait()
for thread in threads:
    thread.join()
print(len(threads), "threads")
