"""What `ttstrace run` puts in front of the program's own modules: every Python of the program loads it at its start.

Not part of the package: it is found by PYTHONPATH, maybe by a Python that ttstrace is not installed for.
"""

import importlib.machinery
import importlib.util
import os
import sys


def _run_the_one_behind() -> None:
    """Another sitecustomize, the system's or the environment's own, which this one stands in front of."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path) != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


try:
    _run_the_one_behind()
finally:
    try:
        from ttstrace.cli.started import start
    except ImportError as error:
        sys.stderr.write(
            f"ttstrace: nothing is traced in this process: {error}. It runs by {sys.executable}: "
            f"{sys.executable} -m pip install ttstrace\n"
        )
    else:
        start()
