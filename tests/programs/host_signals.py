# Takes signals from outside in every way there is: a handler, sigwaitinfo, a signalfd, ignored, KeyboardInterrupt.
import ctypes
import os
import signal
import sys
import time

print_line = lambda text: print(text, flush=True)


def wait_for(handled):
    while not heard:
        time.sleep(0.01)
    print_line(f"{handled} {heard.pop(0)} from 0")


heard = []
handler = lambda number, frame: heard.append(signal.Signals(number).name)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, handler)
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
libc = ctypes.CDLL(None, use_errno=True)
mask = (ctypes.c_ulong * 16)(1 << (signal.SIGUSR2 - 1))
descriptor = libc.signalfd(-1, mask, 0)
assert descriptor >= 0, os.strerror(ctypes.get_errno())

print_line("ready")
for _ in range(3):
    wait_for("handled")
info = signal.sigwaitinfo({signal.SIGUSR1})
print_line(f"waited for {signal.Signals(info.si_signo).name} from {info.si_pid}")
record = os.read(descriptor, 128)
number, sender = (int.from_bytes(record[at : at + 4], sys.byteorder) for at in (0, 12))
try:
    # The next signal may come as soon as this is read.
    print_line(f"read {signal.Signals(number).name} from {sender}")
    while True:
        time.sleep(1)
except KeyboardInterrupt:
    print_line("interrupted")
    sys.exit(7)
