"""Makes each call and prints what it gave or the name of its error: on Linux and in the machine the same lines."""
import ctypes
import errno
import os

libc = ctypes.CDLL(None, use_errno=True)
NULL = ctypes.c_void_p(None)


def show(label, call):
    try:
        result = call()
    except OSError as error:
        result = errno.errorcode.get(error.errno, error.errno)
    print(label, result, flush=True)


def raw(name, *args):
    """Calls the C library where Python has no call of its own, or one that does more."""
    result = getattr(libc, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), "")
    return result


def fallocate(fd, mode, offset, length):
    return raw("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
