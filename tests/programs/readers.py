"""readers.py THREADS: threads that read the files of `tree`, each all of them in an order of its own, and agree."""
import hashlib
import mmap
import os
import sys
import threading

paths = sorted(os.path.join(place, name) for place, _, names in os.walk("tree") for name in names)
sums = {}


def read_all(number):
    order = [paths[(i * 7 + number * 13) % len(paths)] for i in range(len(paths))] if len(paths) % 7 else paths
    found = {}
    for path in order:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if (number + len(path)) % 3 == 0 and size:
                with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
                    found[path] = hashlib.sha256(memory).hexdigest()
            else:
                sum = hashlib.sha256()
                while piece := file.read(70001):
                    sum.update(piece)
                found[path] = sum.hexdigest()
    sums[number] = found


threads = [threading.Thread(target=read_all, args=(number,)) for number in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(sums), "threads,", len(paths), "files,", "the same" if all(s == sums[0] for s in sums.values()) else "NOT the same")
for path in paths:
    print(sums[0][path], path)
