"""When the pieces of one synthesis came, and what that says of the backend.

All times are readings of the monotonic clock in seconds (`time.perf_counter`); all durations are seconds.
*Hold* is time that belongs to the consumer: between two pulls, or marked by the program as no synthesis. A *pull*
producer works only while it is asked; a *push* producer (a remote service, a background thread) goes on meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from ttstrace.audio import Playback

if TYPE_CHECKING:
    from ttstrace.audio import AudioReader
    from ttstrace.promises import Promises, Stretch

Producer = Literal["pull", "push"]

_UNKNOWABLE: Final = 0.1  # where the consumer held more than this share of a push producer's time, nobody can know it
_WAITED: Final = 0.005  # a first pull that took longer than this ...
_WAITED_CPU: Final = 0.25  # ... and used less than this share of it in CPU waited for somebody else's work
_UNDERRUN_EVENTS_MAX: Final = 32
_ARRIVALS_MAX: Final = 4096  # leading silence is searched for 3 s: shorter chunks than 1 ms are not kept track of


class Figures(NamedTuple):
    """What a timeline settles to, in seconds; None is unknown."""

    duration: float | None
    """Time the backend took."""
    time_to_first_chunk: float | None
    time_to_first_audio: float | None
    first_instant: float | None
    """When a listener hears something (where the format hides that: the first chunk): a reading of the clock, with
    hold in it."""


class _Unfinished(NamedTuple):
    """A chunk that a card is still at work on, or one that came after such a chunk."""

    begun: float
    """When the program began with it."""
    asked: float | None
    arrived: float
    seconds: float | None
    stretch: Stretch | None


class Timeline:
    """Arrivals, holds and stalls of one synthesis."""

    __slots__ = (
        "_arrivals",
        "_begun",
        "_done",
        "_onset_arrival",
        "_playback",
        "_reader",
        "_unfinished",
        "arrival",
        "arrival_hold",
        "chunks",
        "end",
        "first",
        "first_hold",
        "first_piece",
        "first_pull",
        "hold",
        "marked",
        "promises",
        "seconds_known",
        "start",
        "underruns",
        "unknown",
        "wait",
        "wait_before_first",
    )

    def __init__(self, start: float) -> None:
        self.start = start
        self.end = start
        """End of the latest pull (before the first: of the call); what follows is the consumer's time."""
        self.hold = 0.0
        self.marked = 0.0
        """Seconds that the program itself marked as no synthesis."""
        self.chunks = 0
        self.first: float | None = None
        self.first_hold = 0.0
        self.arrival: float | None = None
        """Arrival of the latest audio; `arrival_hold` is the hold before it."""
        self.arrival_hold = 0.0
        self.first_pull: tuple[float, float] | None = None
        """Wall and thread CPU seconds of the first pull."""
        self.seconds_known = True
        self.underruns: list[tuple[float, float]] = []
        """When playback ran dry, and for how long: the first 32."""
        self.wait = 0.0
        """Time spent waiting for text; `wait_before_first` is the part of it before the first piece."""
        self.wait_before_first = 0.0
        self.first_piece: float | None = None
        self.promises: Promises | None = None
        """Marks around the work that each pull gives to a card, where the process uses one."""
        self._unfinished: list[_Unfinished] = []
        self._begun = start  # the work that comes next
        self._done = start  # the cards, with what came last
        self.unknown = False
        """Nobody waited for the cards: nothing is known of times and holds."""
        self._playback = Playback()
        # The onset is confirmed by a later chunk than the one that holds it: arrivals are kept until then.
        self._arrivals: list[tuple[float, float]] | None = []
        self._onset_arrival: tuple[float, float] | None = None

    def chunk(self, asked: float | None, arrived: float, seconds: float | None, reader: AudioReader) -> None:
        """One chunk arrived.

        Args:
            asked: when the consumer asked for it; None where it was fed by hand.
            arrived: when it came.
            seconds: its audio; 0.0 where it holds none, None where that is not known.
            reader: what read it.
        """
        if seconds == 0.0:
            return
        self.chunks += 1
        self.arrival = arrived
        self.arrival_hold = hold = self.hold
        if self.first is None:
            self.first = arrived
            self.first_hold = hold
        arrivals = self._arrivals
        if arrivals is not None:
            arrivals.append((arrived, hold))
            if reader.onset is not None:
                self._find_onset(reader)
            elif len(arrivals) >= _ARRIVALS_MAX or not reader.readable:
                self._arrivals = None
        if seconds is None:
            self.seconds_known = False
        elif (stall := self._playback.add(arrived, seconds, asked)) is not None and len(
            self.underruns
        ) < _UNDERRUN_EVENTS_MAX:
            self.underruns.append(stall)

    def ask(self, asked: float) -> None:
        """The consumer asks for more, at `asked`; `end` is when the backend was done with what it asked for before."""
        if self.promises is None:
            self.hold += asked - self.end
            return
        if self.is_finished():
            self.hold += max(0.0, asked - self.end)
        self._mark(asked)

    def mark_hold(self, seconds: float, now: float) -> None:
        """The program marks the `seconds` until `now` as no synthesis; what a card was at work meanwhile was one."""
        self.marked += seconds
        if self.promises is not None:
            seconds = min(seconds, max(0.0, now - self._done)) if self.is_finished() else 0.0
        self.hold += seconds

    def _mark(self, begun: float) -> None:
        self.promises.mark()  # type: ignore[union-attr]
        self._begun = begun

    def is_unpromised(
        self, asked: float | None, arrived: float, seconds: float | None, reader: AudioReader, audio: object
    ) -> bool:
        """Whether a chunk is finished as it arrives. One that a card is still at work on arrives when that is done, and
        what comes after it not before: such chunks are accounted for then. See `chunk`."""
        begun, stretch = self._begun, self.promises.stretch(audio)  # type: ignore[union-attr]
        if asked is None:  # the work for the next one begins here
            self._mark(arrived)
        if stretch is None and self.is_finished():
            return True
        self._reader = reader
        self._unfinished.append(_Unfinished(begun, asked, arrived, seconds, stretch))
        return False

    def is_finished(self) -> bool:
        """Whether the cards are done with every chunk; accounts for those they are done with."""
        unfinished = self._unfinished
        while unfinished:
            begun, asked, arrived, seconds, stretch = unfinished[0]
            took = 0.0 if stretch is None else stretch.seconds()
            if took is None:
                return False
            # Where the card had not come to the end of the work before, this work began when it did.
            done = max(arrived, max(begun, self._done) + took)
            self._done = done
            self.end = max(self.end, done)
            del unfinished[0]
            self.chunk(asked, done, seconds, self._reader)
        return True

    def give_up(self) -> None:
        """Nobody will wait for the cards: when they were done is not known."""
        self.unknown = True
        self.promises = None
        unfinished, self._unfinished = self._unfinished, []
        for _, asked, arrived, seconds, _ in unfinished:
            self.chunk(asked, arrived, seconds, self._reader)

    def piece(self, asked: float, arrived: float, text: bool = True) -> None:
        """One piece of the input arrived that was asked for at `asked`; whether it holds text."""
        self.wait += arrived - asked
        if text and self.first_piece is None:
            self.first_piece = arrived
            self.wait_before_first = self.wait

    @property
    def playback(self) -> Playback | None:
        """The account of underruns; None where it cannot be known: one chunk, chunks of unknown seconds, or of unknown
        times."""
        return self._playback if self.seconds_known and self.chunks > 1 and not self.unknown else None

    def waited(self) -> bool:
        """Whether the first pull was spent waiting for work that is done elsewhere."""
        if self.first_pull is None:
            return False
        wall, cpu = self.first_pull
        return wall > _WAITED and cpu < wall * _WAITED_CPU

    def settle(self, producer: Producer, reader: AudioReader) -> Figures:
        """The figures, once no more will come.

        Args:
            producer: who works between the pulls. Hold that the program marked itself is taken off either way
                only where the producer is "pull".
            reader: what read the audio.
        """
        if self.unknown:
            return Figures(None, None, None, None)
        if self._arrivals and reader.onset is not None:
            self._find_onset(reader)
        begin = self.start if self.first_piece is None else self.first_piece
        first, onset_arrival, onset = self.first, self._onset_arrival, reader.onset
        instant = first
        if first is not None and onset_arrival is not None and onset is not None:
            instant = max(onset_arrival[0], first + onset)
        if producer == "pull":
            duration: float | None = self.end - self.start - self.hold - self.wait
            if first is None:
                return Figures(duration, None, None, None)
            # Hold before the text came is in neither: both run from the first piece.
            to_chunk = first - self.first_hold - begin
            to_audio = None
            if onset_arrival is not None and onset is not None:
                arrived, held = onset_arrival
                to_audio = max(arrived - held - begin, to_chunk + onset)
            return Figures(duration, to_chunk, to_audio, instant)
        last = self.end if self.arrival is None else self.arrival
        duration = last - begin
        later_wait = self.wait - self.wait_before_first
        if max(self.arrival_hold if self.arrival is not None else self.hold, later_wait) > duration * _UNKNOWABLE:
            duration = None
        if first is None or self.first_hold > (first - begin) * _UNKNOWABLE:
            return Figures(duration, None, None, instant)
        to_audio = None
        if onset_arrival is not None and onset is not None:
            arrived, held = onset_arrival
            audible = first + onset
            # Where the consumer, not the producer, was late with the onset's chunk, its moment says nothing.
            if arrived <= audible or held <= (arrived - begin) * _UNKNOWABLE:
                to_audio = max(arrived, audible) - begin
        return Figures(duration, first - begin, to_audio, instant)

    def _find_onset(self, reader: AudioReader) -> None:
        if self._arrivals is not None and reader.onset_chunk is not None:
            self._onset_arrival = self._arrivals[reader.onset_chunk]
        self._arrivals = None
