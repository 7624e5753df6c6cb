"""The handle that ``configure()`` returns, and the end of the process."""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
import os
import sys
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from ttstrace.endings import drain, drain_for_good
from ttstrace.lifecycle import drain_at_exit
from ttstrace.telemetry.delivery import EXIT_SECONDS, Output
from ttstrace.telemetry.troubles import Signal, Trouble


class Telemetry:
    """What one call of ``configure()`` set up.

    Also a context manager that shuts down at its end.

    Attributes:
        file: the trace file that spans are written to, absolute; None without one.
        metrics_file: the file that metrics are written to, absolute; None without one.
        endpoint: the collector's address as it was given; None without one.
    """

    def __init__(
        self,
        *,
        file: str | None = None,
        metrics_file: str | None = None,
        endpoint: str | None = None,
        outputs: Sequence[Output] = (),
        borrowed: Sequence[Output] = (),
    ) -> None:
        self.file = file
        self.metrics_file = metrics_file
        self.endpoint = endpoint
        self._outputs = tuple(outputs)
        # Set up by an earlier configure(): flushed with ours, and shut down by that one's handle only.
        self._borrowed = tuple(borrowed)
        # A signal handler may shut down what its own thread is shutting down.
        self._lock = threading.RLock()
        self._sent: bool | None = None
        if outputs:
            _open.add(self)

    def force_flush(self, timeout: float = 30) -> bool:
        """Send what was recorded so far.

        Args:
            timeout: the longest to wait, in seconds.

        Returns:
            True if everything recorded since the last call of this method was sent; False if something was
            lost, or was still under way when the time was over. Where nothing was recorded since, the last
            answer holds. After a shutdown, what that returned.
        """
        if self._sent is not None:
            return self._sent
        end = time.monotonic() + timeout
        # What the garbage collector found abandoned is recorded, too, and what a GPU is still at work on.
        everything = drain(timeout)
        answers: list[bool] = []
        outputs = self._outputs + self._borrowed
        threads = [
            # The SDK's flush does not end in time, so it cannot be waited for here.
            threading.Thread(target=_flush, args=(output, timeout, answers), name="TtstraceFlush", daemon=True)
            for output in outputs
        ]
        for thread, output in zip(threads, outputs, strict=True):
            try:
                thread.start()
            except RuntimeError:  # the interpreter is ending, and starts no thread any more
                _flush(output, timeout, answers)
        for thread in threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        return everything and len(answers) == len(outputs) and all(answers)

    def arrived(self, signal: Signal) -> bool:
        """Whether everything of one signal that was handed over so far arrived at the collector.

        Many collectors take traces alone (Jaeger does): flushes then fail for the metrics' sake.

        Returns:
            False also without a collector, or where it is not sent that signal.
        """
        sent = [output.tally.all_arrived() for output in self._sent_to_collector(signal)]
        return bool(sent) and all(sent)

    def trouble(self, signal: Signal) -> Trouble | None:
        """Why something of one signal was lost at the collector last, or does not get through at this moment.

        Returns:
            None where nothing was lost, or without a collector.
        """
        return next((trouble for output in self._sent_to_collector(signal) if (trouble := output.trouble())), None)

    def shutdown(self, timeout: float = EXIT_SECONDS) -> bool:
        """Send what is left and stop; touches nothing but what this ``configure()`` added.

        Args:
            timeout: the longest to wait, in seconds.

        Returns:
            True if everything recorded since ``configure()`` was sent. A second call returns the same. False
            where another thread is still at it when the time is over.
        """
        end = time.monotonic() + timeout
        if not self._lock.acquire(timeout=max(0.0, timeout)):
            return False
        try:
            if self._sent is None:
                left_over = max(0.0, end - time.monotonic())
                # One each: spans and metrics that go to the same collector share it.
                outages = {id(each): each for output in self._outputs if (each := output.outages)}.values()
                for each in outages:
                    each.begin_end()
                drain_for_good(min(1.0, left_over / 2))  # what is given up on is still to be sent
                sent = True
                for left, output in zip(range(len(self._outputs), 0, -1), self._outputs, strict=True):
                    # A share each, so that one collector that does not answer leaves time for the next.
                    sent = _close(output, max(0.0, end - time.monotonic()) / left) and sent
                for each in outages:
                    each.end()
                self._sent = sent
                _open.discard(self)
            return self._sent
        finally:
            self._lock.release()

    def __enter__(self) -> Telemetry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        where = [
            f"{name}={value!r}"
            for name in ("endpoint", "file", "metrics_file")
            if (value := getattr(self, name)) is not None
        ]
        return f"Telemetry({', '.join([*where, *(['shut down'] if self._sent is not None else [])])})"

    def _sent_to_collector(self, signal: Signal) -> list[Output]:
        return [
            output
            for output in self._outputs
            if self.endpoint is not None and output.identity[0] == signal and output.identity[2] == self.endpoint
        ]

    def _after_fork(self) -> None:
        self._lock = threading.RLock()
        for output in self._outputs:
            output.begin_anew()


_open: set[Telemetry] = set()
_hooked_in: int | None = None


def open_outputs() -> tuple[Output, ...]:
    """Everything that earlier calls of ``configure()`` added and nobody has shut down."""
    return tuple(output for handle in tuple(_open) for output in handle._outputs)


def end_with_process() -> None:
    """Shut everything down when the process ends, in 5 seconds at most.

    To be called after the providers are made: the SDK's own hooks, which know no time limit, then run after
    this one and find nothing left to do but what the application has added itself.
    """
    global _hooked_in
    if _hooked_in == os.getpid():
        return
    if _hooked_in is None:
        atexit.register(_at_exit)
    _hooked_in = os.getpid()
    if multiprocessing.parent_process() is not None:
        _finalize_with_worker()
    multiprocessing.util.register_after_fork(_worker, _Worker.started)
    _finalize_with_worker_of_celery()


class _Worker:
    """Keeps the hook for forked workers alive: multiprocessing holds it weakly."""

    def started(self) -> None:
        _finalize_with_worker()


_worker = _Worker()


def _finalize_with_worker() -> None:
    # A worker ends by os._exit(), which runs these and not atexit.
    multiprocessing.util.Finalize(None, _at_exit, exitpriority=0)


def _finalize_with_worker_of_celery() -> None:
    # Those of Celery end by os._exit() and run nothing but the receivers of this signal; it keeps each once.
    signals = sys.modules.get("celery.signals")
    if signals is not None:
        signals.worker_process_shutdown.connect(_at_exit)


def _at_exit(**_: object) -> None:
    # The interpreter's own end takes its time, too.
    end = time.monotonic() + 0.9 * EXIT_SECONDS
    drain_at_exit()
    handles = sorted(_open, key=lambda handle: handle.endpoint is not None)
    for left, handle in zip(range(len(handles), 0, -1), handles, strict=True):
        handle.shutdown(max(0.0, end - time.monotonic()) / left)


def _flush(output: Output, timeout: float, answers: list[bool]) -> None:
    try:
        answers.append(output.flush(timeout))
    except Exception:  # the SDK raises where collecting metrics takes too long
        answers.append(False)


def _close(output: Output, timeout: float) -> bool:
    try:
        return output.close(timeout)
    except Exception:
        return False


def _after_fork_in_child() -> None:
    for handle in tuple(_open):
        handle._after_fork()
    _finalize_with_worker_of_celery()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
