"""The facts of one synthesis's audio, gathered as it comes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ttstrace.audio import arrays, carriers, seekable
from ttstrace.audio.carriers import Carried
from ttstrace.audio.containers import HEAD, carries_text, choose, is_encoded
from ttstrace.audio.formats import UNKNOWN, Format, parse_format
from ttstrace.audio.layouts import Layout, layout_of_code
from ttstrace.audio.onset import OnsetSearch
from ttstrace.audio.pcm import Pcm
from ttstrace.audio.rate import sample_rate_of
from ttstrace.audio.samples import ArraySamples, NumberSamples, Samples
from ttstrace.audio.streams import Buffer, Stream
from ttstrace.audio.transport import Events, decode_text

_DEEPEST: Final = 4
"""Carriers within carriers that are opened."""
_LONGEST_LIST: Final = 10_000
"""Pieces of audio in a list that are looked at."""
_FIRST_BLOCK: Final = 4096
_BLOCK: Final = 8_192
_MOST_READ: Final = 256 * 1024 * 1024
"""Bytes of a file that are walked through at most; more is a file of unknown length."""

_NO_PCM: Final = Pcm(None, 1, None)


class _NoType:
    """The type of no chunk."""


class AudioReader:
    """Reads one synthesis's audio as it comes; a whole result is one `feed` and a `finish`.

    `sample_rate` and `format` are what the user declared; where the audio itself says otherwise (a header, a
    rate beside the array), that wins. A rate that is none, and a format that nobody knows, count as not
    declared. Raw PCM is mono unless its format's name or its carrier says otherwise. `onset=False` leaves out
    the search for the onset, which only a stream needs. `texts` is how many texts were given at once, as a list:
    a result of as many parts is a batch then, never channels, and its seconds are the parts' sum.

    Nothing is decoded, changed or kept: a few kB of a stream are held at most (a header, one frame). Nothing
    raises for what it is given.
    """

    __slots__ = (
        "_array_type", "_axis", "_blank", "_brought", "_bytes_type", "_chunks", "_declared", "_declared_rate", "_dtype",
        "_earlier", "_encoded", "_fixed", "_frames", "_head", "_known", "_lost", "_ndim", "_pcm", "_rate", "_said",
        "_search", "_size", "_sized", "_stream", "_texts", "_transport", "_vague", "_wav", "_width",
        "batch_size", "channels", "format", "onset", "onset_chunk", "readable", "searching",
    )  # fmt: skip

    def __init__(
        self,
        sample_rate: int | None = None,
        format: str | None = None,
        *,
        onset: bool = True,
        texts: int | None = None,
    ) -> None:
        self._declared = parse_format(format) if format is not None else UNKNOWN
        self._declared_rate = sample_rate_of(sample_rate) if sample_rate is not None else None
        self._said: int | None = None  # by the audio itself
        self._rate = self._declared_rate or self._declared.rate or 0  # the one that holds; 0 is unknown
        self._frames = 0  # at that rate
        self._earlier = 0.0  # seconds at rates that held before
        self._known = False  # something came whose length is known
        self._blank = False  # no bytes came, of a known format
        self._lost = False  # something came whose length is not known
        self._size = 0
        self._sized: bool | None = None  # the size of everything is known; None while nothing came
        self._chunks = 0  # with audio
        self._brought = 0.0  # seconds of this chunk
        self._vague = False  # this chunk's seconds are not known
        self._texts = texts
        self._transport: Events | None = None  # the bytes are text that carries the audio
        self._encoded = False  # texts that were named as audio are base64
        self._stream: Stream | None = None
        self._head = b""  # bytes that do not yet tell their format
        self._search: OnsetSearch | None = None
        # How the last chunk was read, for the next one of its kind.
        self._array_type: type = _NoType
        self._dtype: object = None
        self._ndim = self._axis = self._fixed = self._width = 0
        self._bytes_type: type = _NoType
        self._pcm = _NO_PCM
        self._wav = False

        self.searching = onset
        """The onset is still looked for."""
        self.batch_size: int | None = None
        """Texts that the audio is of, where a batch of them was synthesized."""
        self.channels: int | None = None
        """Channels of the audio."""
        self.format: str | None = None
        """`wav`, `mp3`, ...; of raw samples and arrays their layout: `pcm_s16le`, `pcm_f32le`, ..."""
        self.onset: float | None = None
        """Seconds of silence before the first sustained sound (see `audio.onset`); None while not found."""
        self.onset_chunk: int | None = None
        """Index of the chunk that holds the onset's first sample, counted over the chunks that hold audio."""
        self.readable = False
        """The samples can be read, so that an onset can be found."""

    @property
    def sample_rate(self) -> int | None:
        """Hz. Setting it declares it, for what came as well: what the audio itself said still wins."""
        return self._rate or None

    @sample_rate.setter
    def sample_rate(self, value: int | None) -> None:
        self._declared_rate = sample_rate_of(value)
        if self._said is None:
            self._settle_rate(self._declared_rate or self._declared.rate or 0)

    @property
    def duration(self) -> float | None:
        """Seconds of all audio so far; None where any is unknown, 0.0 for none of a known format and rate."""
        if self._lost or not self._known or not self._rate:
            return None
        return self._earlier + self._frames / self._rate

    @property
    def size(self) -> int | None:
        """Bytes as they were returned; None where nothing came, or something that is not made of bytes."""
        return self._size if self._sized else None

    def feed(self, chunk: object) -> float | None:
        """Take the next chunk; its seconds of audio.

        0.0 where it holds none (it is empty, or a header), None where it holds something whose seconds are
        not known. A frame counts when its last byte is there, so the chunks' seconds add up to `duration`.
        """
        kind = type(chunk)
        if kind is self._array_type:
            try:
                seen: Any = chunk
                shape = seen.shape
                if seen.dtype is self._dtype and len(shape) == self._ndim:
                    if self._ndim == 1:
                        frames = shape[0]
                        seconds: float = frames / self._rate
                        self._frames += frames
                        self._size += frames * self._width
                        return seconds
                    if shape[1 - self._axis] == self._fixed:
                        frames = shape[self._axis]
                        seconds = frames / self._rate
                        self._frames += frames
                        self._size += frames * self._width
                        return seconds
            except Exception:
                pass
        elif kind is self._bytes_type:
            data: Any = chunk
            size = len(data)
            pcm = self._pcm
            if size < pcm.left and not (self._wav and data.startswith((b"RI", b"RF", b"BW", b"FO", b".s"))):
                pcm.left -= size
                self._size += size
                size += pcm.odd
                frames = size // pcm.block
                pcm.odd = size - frames * pcm.block
                self._frames += frames
                return frames / self._rate
        elif kind is tuple:
            pair: Any = chunk
            if len(pair) == 2:
                first, second = pair
                if type(first) is self._array_type and type(second) is int and second == self._rate:
                    return self.feed(first)
                if type(second) is self._array_type and type(first) is int and first == self._rate:
                    return self.feed(second)
        return self._read(chunk)

    def finish(self) -> None:
        """No more will come: what could not be told from a part is settled. May be called again."""
        try:
            if self._head:
                head, self._head = self._head, b""
                self._choose(head, None, whole=True)
                if self._stream is not None:
                    self._stream.feed(head, self)
            if self._stream is not None:
                self._stream.finish(self)
                self._look_at(self._stream)
                self._stream = None
                self._blank = False
            elif self._blank and not self._known and self._transport is None:
                self._known = True  # there is no audio, of a known format
                self.format = self.format or self._declared.name
        except Exception:
            self.lose()
        self.searching = False
        self._search = None

    # What streams and files tell.

    def count(self, frames: int, rate: int | None, channels: int | None) -> None:
        """`frames` more samples per channel came, at `rate` Hz where the audio itself says so."""
        if rate is not None and rate != self._said:
            self._said = rate
            if rate != self._rate:
                if self._rate and self._frames:
                    self._earlier += self._frames / self._rate
                    self._frames = 0
                self._settle_rate(rate)
        self._known = True
        if channels is not None and self.channels is None:
            self.channels = channels
        if frames:
            self._frames += frames
            if self._rate:
                self._brought += frames / self._rate
            else:
                self._vague = True

    def listen(self, samples: Samples, rate: int | None) -> None:
        """Look for the onset in samples that `count` is told of next."""
        rate = rate or self._rate
        if not self.searching or not samples.frames:
            return
        if not rate:
            self.deafen()
            return
        try:
            if self._search is None:
                self._search = OnsetSearch(rate)
                self.readable = True
            elif self._search.rate != rate:
                self.deafen()
                return
            self._search.listen(samples, self._chunks)
            if self._search.settled:
                self.onset = self._search.onset
                self.onset_chunk = self._search.chunk if self.onset is not None else None
                self.searching = False
                self._search = None
        except Exception:
            self.deafen()

    def deafen(self) -> None:
        """Samples came that cannot be read: with a gap in them, no onset can be told any more."""
        if self.searching:
            self.searching = False
            self.readable = False
            self._search = None

    def postpone(self) -> None:
        """Audio came whose length a later `count` tells, so that this chunk's seconds are not known."""
        self._vague = True

    def add_size(self, size: int) -> None:
        """`size` more bytes came."""
        self._size += size
        if self._sized is None:
            self._sized = True

    def lose(self) -> None:
        """Something came whose length cannot be known."""
        self._lost = self._vague = True
        self.deafen()

    def feed_file(self, file: Any, begin: int, end: int) -> None:
        """Take the bytes of a seekable file from `begin` to `end`; moves it.

        Where a header tells the length of the samples they are not read, so that no onset is looked for.
        """
        self.deafen()
        self.add_size(end - begin)
        if end == begin:
            self._empty()
            return
        file.seek(begin)
        at, block, allowed = begin, _FIRST_BLOCK, _MOST_READ
        while at < end:
            piece = file.read(min(block, end - at))
            if not isinstance(piece, bytes) or not 0 < len(piece) <= block or allowed <= 0:
                self.lose()
                return
            self._stream_bytes(piece, None, None)
            if self._lost:
                return
            at += len(piece)
            allowed -= len(piece)
            block = _BLOCK
            pcm = self._steady()
            # The last byte is read: the stream has to see where its samples end.
            passed = min(pcm.left, end - at) - 1 if pcm is not None else 0
            if pcm is not None and passed > 0:
                pcm.skip(passed, self)
                at += passed
                file.seek(at)

    # One chunk.

    def _read(self, chunk: object) -> float | None:
        self._array_type = self._bytes_type = _NoType
        self._brought = 0.0
        self._vague = False
        try:
            self._take(Carried(chunk, texts=self._texts), 0)
        except Exception:
            self._lose_all()
        seconds = None if self._vague else self._brought
        if seconds != 0.0:
            self._chunks += 1
        return seconds

    def _take(self, carried: Carried, depth: int) -> None:
        value = carried.audio
        if value is None:
            return
        if isinstance(value, (bytes, bytearray)):
            self._bytes(value, carried)
            if depth == 0:
                self._remember_bytes(type(value))
        elif isinstance(value, carriers.Text):
            self._text(value.text, carried)
        elif isinstance(value, (str, int, float, type)) or depth > _DEEPEST:
            self._lose_all()
        elif isinstance(value, tuple):
            found = carriers.from_tuple(value)
            if found is None and len(value) == carried.texts:
                self._parts(value, carried, depth)
            else:
                self._carried(found, carried, depth)
        elif isinstance(value, list):
            if value and not carriers.is_number(value[0]):
                self._parts(value, carried, depth)
            else:
                self._list(value, carried)
        elif getattr(value, "shape", None) is not None and getattr(value, "dtype", None) is not None:
            self._array(value, carried)
        elif isinstance(value, array):
            self._numbers(value, value.typecode, carried)
        elif isinstance(value, memoryview):
            self._view(value, carried)
        elif isinstance(value, Mapping):
            self._carried(carriers.from_mapping(value), carried, depth)
        elif seekable.is_file_like(value):
            self._file(value)
        else:
            self._carried(carriers.from_attributes(value), carried, depth)

    def _lose_all(self) -> None:
        self._sized = False
        self.lose()

    def _carried(self, found: Carried | None, outer: Carried, depth: int) -> None:
        if found is not None:
            plain = depth == 0 and outer.texts is None
            self._take(found if plain else found.within(outer), depth + 1)
        elif not carriers.is_without_audio(outer.audio):
            self._lose_all()

    def _parts(self, values: Sequence[object], carried: Carried, depth: int) -> None:
        """Pieces of audio one after the other, or the items of a batch."""
        if len(values) > _LONGEST_LIST:
            self._lose_all()
            return
        if len(values) == carried.texts:
            self.batch_size = carried.texts
        for value in values:
            self._take(carried._replace(audio=value, lengths=None, texts=None), depth + 1)

    # Arrays and numbers.

    def _array(self, value: Any, carried: Carried) -> None:
        layout = arrays.layout_of(value.dtype)
        dimensions = tuple(value.shape)
        if self._is_batch(value, dimensions, layout, carried):
            return
        shape = arrays.shape_of(dimensions)
        if shape is None and self._ndim == len(dimensions) == 2 and dimensions[1 - self._axis] == self._fixed:
            # Too small to tell by itself: it is read as the chunk before it was.
            shape = arrays.Shape(dimensions[self._axis], self._fixed, self._axis)
        if layout is None or shape is None:
            self._lose_all()
            return
        rate, channels = carried.rate, carried.channels
        on_cpu = self.searching and arrays.is_on_cpu(value)
        if layout.name == "pcm_u8" and len(dimensions) == 1 and self._are_bytes(value):
            self._bytes(memoryview(value), carried)
            return
        frames, interleaved = shape.frames, 1
        if channels is not None and len(dimensions) == 1:
            interleaved = channels
            frames //= channels
        many = shape.channels * interleaved
        self.add_size(shape.frames * shape.channels * layout.width)
        if self.format is None:
            self.format = layout.name
        if on_cpu and (layout.full_scale or layout.code in "xq"):
            while len(value.shape) > 2:
                value = value[0]
            # 64-bit integers have no full scale of their own: what is in them is told by how large they are.
            full_scale = None if layout.floating else layout.full_scale
            middle = layout.middle
            self.listen(ArraySamples(value, frames, shape.axis, many, full_scale, middle), rate)
        else:
            self.deafen()
        self.count(frames, rate, many)
        self._ndim, self._axis, self._fixed = len(dimensions), shape.axis, shape.channels
        self._width = many * layout.width
        if interleaved == 1 and self._ndim <= 2 and self._rate and not self.searching and self._texts is None:
            self._array_type = type(value)
            self._dtype = value.dtype

    def _is_batch(self, value: Any, dimensions: tuple[Any, ...], layout: Layout | None, carried: Carried) -> bool:
        """Take an array that holds one item per text, or per length that came with it."""
        if carried.lengths is None and carried.texts is None:
            return False
        told = carriers.items_of(carried.lengths)
        items = carried.texts if told is None else told
        shape = arrays.batch_of(dimensions, items) if items is not None else None
        if items is None or shape is None or layout is None:
            return False
        if items == carried.texts or items > 1:
            self.batch_size = items
        if items == 1 and told is None:  # an array like any other
            return False
        self.deafen()
        self.add_size(items * shape.frames * shape.channels * layout.width)
        if self.format is None:
            self.format = layout.name
        lengths = [shape.frames] * items if told is None else carriers.lengths_of(carried.lengths)
        if lengths is None and items == 1:  # alone, it is not padded to another
            lengths = [shape.frames]
        if lengths is None:  # padded, and how far is known to a device only
            self.lose()
        else:
            self.count(sum(min(length, shape.frames) for length in lengths), carried.rate, shape.channels)
        return True

    def _are_bytes(self, value: Any) -> bool:
        """Octets in an array are encoded audio where they begin like it, or where a format says so."""
        if self._declared.name is not None:
            return self._declared.name != "pcm_u8"
        if self._stream is not None:
            return True
        if self.format is not None:
            return False
        try:
            return is_encoded(memoryview(value)[:HEAD].tobytes())
        except TypeError:  # not in the memory of this process
            return False

    def _list(self, values: list[Any], carried: Carried) -> None:
        if values and not carriers.is_number(values[-1]):
            self._lose_all()
            return
        self._sized = False
        many = carried.channels or 1
        if values:
            self.listen(NumberSamples(values, many, None), carried.rate)
        self.count(len(values) // many, carried.rate, many)

    def _numbers(self, values: Any, code: str, carried: Carried) -> None:
        if code == "B" and self._are_bytes(values):
            self._bytes(memoryview(values), carried)
            return
        layout = layout_of_code(code, values.itemsize)
        if layout is None:
            self._lose_all()
            return
        rate, many = carried.rate, carried.channels or 1
        self.add_size(len(values) * values.itemsize)
        if self.format is None:
            self.format = layout.name
        if layout.full_scale is not None:
            full_scale = None if layout.floating else layout.full_scale
            self.listen(NumberSamples(values, many, full_scale, layout.middle), rate)
        else:
            self.deafen()
        self.count(len(values) // many, rate, many)

    def _view(self, view: memoryview, carried: Carried) -> None:
        code = view.format.lstrip("@=")
        if code in ("B", "b", "c"):
            self._bytes(view.cast("B") if view.c_contiguous else view.tobytes(), carried)
        elif view.ndim == 1:
            self._numbers(view, code, carried)
        else:
            self._lose_all()

    # Bytes.

    def _bytes(self, data: Buffer, carried: Carried) -> None:
        if carried.format is not None:
            self._declare(parse_format(carried.format))
        if self._transport is None:
            if self._stream is not None or not carries_text(self._head + bytes(data[:HEAD]), self._declared):
                self.add_size(len(data))
                self._audio_bytes(data, carried)
                return
            self._transport = Events()
            head, self._head = self._head, b""
            self._size -= len(head)
            self._sized = self._sized if self._size else None
            self._unpack(self._transport.feed(head), carried)
        self._unpack(self._transport.feed(data), carried)

    def _text(self, text: str, carried: Carried) -> None:
        if text:
            format, pieces = decode_text(text, self._encoded)
            self._declare(format)
            self._encoded = self._unpack(pieces, carried)

    def _unpack(self, pieces: Iterable[bytes], carried: Carried) -> bool:
        """Take audio that comes as text; False where it is some other text."""
        try:
            for piece in pieces:
                if piece:
                    if self._transport is not None:
                        self._declare(self._transport.format)
                    self.add_size(len(piece))
                    self._audio_bytes(piece, carried)
            return True
        except ValueError:
            pass
        self._lose_all()
        return False

    def _declare(self, format: Format) -> None:
        """What a carrier says of its audio holds where the program says nothing."""
        if self._stream is None and format != UNKNOWN:
            self._declared = self._declared.filled_by(format)
            if not self._rate:
                self._settle_rate(self._declared.rate or 0)

    def _audio_bytes(self, data: Buffer, carried: Carried) -> None:
        size = len(data)
        if not size:
            self._empty()
            if carried.rate is not None and not self._rate:
                self._settle_rate(carried.rate)
        elif size > HEAD and type(data) is not memoryview:
            self._stream_bytes(memoryview(data), carried.rate, carried.channels)
        else:
            self._stream_bytes(data, carried.rate, carried.channels)

    def _empty(self) -> None:
        if self._declared.name is not None and self._stream is None:
            self._blank = True

    def _stream_bytes(self, data: Buffer, rate: int | None, channels: int | None) -> None:
        head = b""
        if self._stream is None:
            head = self._head
            self._choose(head + bytes(data[: HEAD - len(head)]), channels, whole=False)
            if self._stream is None:
                self._head += bytes(data)
                return
            self._head = b""
        stream = self._stream
        if rate is not None:
            if isinstance(stream, Pcm):
                self.count(0, rate, None)
            elif not self._rate:  # a header says it better
                self._settle_rate(rate)
        if head:
            stream.feed(head, self)
        stream.feed(data, self)
        self._look_at(stream)

    def _choose(self, head: bytes, channels: int | None, *, whole: bool) -> None:
        declared = self._declared if channels is None else self._declared._replace(channels=channels)
        self._stream = choose(head, declared, whole=whole)

    def _look_at(self, stream: Stream) -> None:
        if stream.failed:
            self.lose()
        if self.format is None:
            self.format = stream.format

    def _steady(self) -> Pcm | None:
        """The samples that the next bytes are, where nothing else comes before them."""
        stream = self._stream
        return stream if type(stream) is Pcm else getattr(stream, "pcm", None)

    def _remember_bytes(self, kind: type) -> None:
        pcm = self._steady()
        if pcm is not None and self._rate and not (self.searching or self._transport) and kind in (bytes, bytearray):
            self._pcm = pcm
            self._wav = pcm is not self._stream
            self._bytes_type = kind

    def _file(self, file: Any) -> None:
        extent = seekable.extent(file)
        if extent is None:
            self._lose_all()
            return
        try:
            self.feed_file(file, 0, extent.end)
        finally:
            file.seek(extent.position)

    def _settle_rate(self, rate: int) -> None:
        self._rate = rate
        self._array_type = self._bytes_type = _NoType
