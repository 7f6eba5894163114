"""Writes the scripts that tests of Python's own suite have another Python run, each to a file named for its test.

Its arguments are modules of the suite. The tests are not run any further. What forks is left out.
"""

import importlib
import inspect
import sys
import unittest
from test.support import script_helper


def tests_of(suite):
    for each in suite:
        yield from tests_of(each) if isinstance(each, unittest.TestSuite) else [each]


def write_scripts(module):
    def keep(*arguments, **options):
        *switches, dash_c, script = arguments
        if dash_c == "-c" and not switches and "fork" not in script:
            with open(f"{current}.py", "w") as file:
                file.write(script)
        raise unittest.SkipTest("only its script was wanted")

    starters = ["assert_python_ok", "assert_python_failure"]
    for holder in (script_helper, module):
        for starter in starters:
            setattr(holder, starter, keep)
    # Tests that start it by way of a method of their own are found by that method's name.
    starters += [name for name, body in methods(module) if any(word in body for word in starters)]
    for test in tests_of(unittest.defaultTestLoader.loadTestsFromModule(module)):
        body = inspect.getsource(getattr(type(test), test._testMethodName))
        if any(word in body for word in starters):
            current = test.id().removeprefix("test.")
            test.run(unittest.TestResult())


def methods(module):
    for _, kind in inspect.getmembers(module, inspect.isclass):
        for name, method in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("test") and method.__module__ == module.__name__:
                yield name, inspect.getsource(method)


for name in sys.argv[1:]:
    write_scripts(importlib.import_module(f"test.{name}"))
