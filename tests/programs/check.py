"""What the scripts beside this one share: a line of output for each check, and errors by their names."""

import errno
import os


def show(name, *values):
    """Prints one line at once: what a script said before it died or hung must be seen."""
    os.write(1, (" ".join([name + ":", *map(str, values)]) + "\n").encode())


def tried(function, *arguments, **options):
    """What function returns, or the name of the error it raises."""
    try:
        return function(*arguments, **options)
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)
