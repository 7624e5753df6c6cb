"""Programs that take known amounts of memory, each run in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import pytest

MB = 2**20
# The kernel counts pages per processor and adds them up late.
SLACK = 1.5

PREAMBLE = """
import ctypes, json, os, subprocess, sys, threading, time
import ttstrace.monitor.meter as meter_module
from ttstrace.monitor import close_window, discard_window, memory_method, memory_method_reason, open_window

MB = 2**20
libc = ctypes.PyDLL(None)  # holds the interpreter lock: no thread sees what happens inside
libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def take(megabytes):
    address = libc.malloc(megabytes * MB)
    libc.memset(address, 1, megabytes * MB)
    return address

def burst(megabytes):
    libc.free(take(megabytes))

def figures(window):
    usage = close_window(window)
    return [None if value is None else value / MB
            for value in (usage.memory_peak, usage.memory_burst, usage.memory_growth)]

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MB

def give(*values):
    print(json.dumps(values))
    sys.stdout.flush()

close_window(open_window())
"""


def results(code: str, environment: Mapping[str, str] | None = None, launcher: str = "") -> Any:
    """What ``code`` gives, in a process of its own."""
    program = PREAMBLE + textwrap.dedent(code)
    command = [sys.executable, "-c", program]
    if launcher:
        command = [sys.executable, "-c", textwrap.dedent(launcher), program]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def near(megabytes: float) -> Any:
    return pytest.approx(megabytes, abs=SLACK)
