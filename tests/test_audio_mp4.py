"""MP4 by its headers: whole, in fragments, and split at any byte; what ffmpeg encodes is the ground truth."""

from __future__ import annotations

import functools
import struct
import time

import pytest
from audio_samples import facts, pieces, read, splits
from ffmpeg import decoded, encode, needs_ffmpeg
from hypothesis import given
from hypothesis import strategies as st

from ttstrace.audio import AudioReader

RATE = 24_000
FTYP = struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 0, b"isom")
STYP = struct.pack(">I4s4sI4s", 20, b"styp", b"msdh", 0, b"msdh")


def box(name: bytes, *parts: bytes, long: bool = False) -> bytes:
    body = b"".join(parts)
    if long:
        return struct.pack(">I4sQ", 1, name, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), name) + body


def mdhd(length: int, timescale: int = RATE, version: int = 0) -> bytes:
    if version:
        return box(b"mdhd", struct.pack(">IQQIQI", 1 << 24, 0, 0, timescale, length, 0))
    return box(b"mdhd", struct.pack(">IIIIII", 0, 0, 0, timescale, length, 0))


def elst(*edits: tuple[int, int], version: int = 0) -> bytes:
    layout = ">QqI" if version else ">IiI"
    rows = (struct.pack(layout, duration, start, 1 << 16) for duration, start in edits)
    return box(b"edts", box(b"elst", struct.pack(">II", version << 24, len(edits)), *rows))


def esds(config: bytes, kind: int = 0x40) -> bytes:
    specific = b"\x05\x80\x80\x80" + bytes([len(config)]) + config
    decoder = b"\x04" + bytes([13 + len(specific), kind, 0x15]) + bytes(11) + specific
    return box(b"esds", bytes(4), b"\x03\x80\x80" + bytes([3 + len(decoder)]) + bytes(3), decoder)


def stsd(rate: int = RATE, channels: int = 1, codec: bytes = b"alac", version: int = 0, inner: bytes = b"") -> bytes:
    entry = bytes(6) + struct.pack(">HHHIHHHHI", 1, version, 0, 0, channels, 16, 0, 0, rate << 16) + inner
    return box(b"stsd", struct.pack(">II", 0, 1), box(codec, entry))


def trak(
    length: int,
    *,
    timescale: int = RATE,
    edits: bytes = b"",
    described: bytes | None = None,
    samples: int = 10,
    size: int = 0,
    number: int = 1,
    handler: bytes = b"soun",
    version: int = 0,
) -> bytes:
    stsz = box(b"stsz", struct.pack(">III", 0, size, samples), bytes(0 if size else 4 * samples))
    times = bytes(16) if version else bytes(8)
    return box(
        b"trak",
        box(b"tkhd", bytes([version, 0, 0, 7]), times, struct.pack(">I", number), bytes(68)),
        edits,
        box(
            b"mdia",
            mdhd(length, timescale, version),
            box(b"hdlr", bytes(8), handler, bytes(13)),
            box(b"minf", box(b"stbl", described or stsd(), box(b"stts", bytes(8)), stsz, box(b"stco", bytes(8)))),
        ),
    )


def moov(*tracks: bytes, timescale: int = 1000, version: int = 0) -> bytes:
    times = bytes(16) if version else bytes(8)
    mvhd = box(b"mvhd", bytes([version, 0, 0, 0]), times, struct.pack(">I", timescale), bytes(84))
    return box(b"moov", mvhd, *tracks, box(b"udta", box(b"meta", bytes(300))))


def mdat(size: int = 400) -> bytes:
    return box(b"mdat", bytes(size))


def trex(duration: int, number: int = 1) -> bytes:
    return box(b"mvex", box(b"trex", struct.pack(">IIIIII", 0, number, 1, duration, 0, 0)))


def tfhd(number: int = 1, duration: int | None = None, more: int = 0) -> bytes:
    flags = more | (0 if duration is None else 0x8)
    body = struct.pack(">II", flags, number) + bytes((8 if more & 1 else 0) + (4 if more & 2 else 0))
    return box(b"tfhd", body, b"" if duration is None else struct.pack(">I", duration))


def trun(count: int, durations: list[int] | None = None, flags: int = 0x200) -> bytes:
    flags |= 0x100 if durations else 0
    first = bytes(4 * ((flags & 1) + (flags >> 2 & 1)))
    words = (flags >> 9 & 1) + (flags >> 10 & 1) + (flags >> 11 & 1)
    rows = [struct.pack(">I", value) for value in durations or []] or [b""] * count
    return box(b"trun", struct.pack(">II", flags, count), first, *(row + bytes(4 * words) for row in rows))


def moof(*parts: bytes) -> bytes:
    return box(b"moof", box(b"mfhd", bytes(8)), box(b"traf", *parts))


EMPTY_MOOV = moov(trak(0, samples=0), trex(1024))
FRAGMENT = moof(tfhd(), box(b"tfdt", bytes(8)), trun(10)) + mdat()
FILE = FTYP + moov(trak(10_240)) + mdat()

CODECS = {
    "aac": (["-c:a", "aac"], 1024),
    "alac": (["-c:a", "alac"], 4096),
    "flac": (["-c:a", "flac", "-strict", "-2"], 4608),
}


def seconds_of(data: bytes) -> float:
    duration = read(data).duration
    assert duration is not None
    return duration


@functools.cache
def sample(*options: str, suffix: str = "m4a", seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> bytes:
    return encode(*options, suffix=suffix, seconds=seconds, rate=rate, channels=channels)


@needs_ffmpeg
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("rate", "seconds"), [(8000, 0.4), (16000, 1.1), (22050, 2.345), (24000, 1.0), (44100, 0.7), (48000, 0.05)]
)
@pytest.mark.parametrize("where", ["end", "start"])
def test_as_long_as_what_was_encoded(codec: str, channels: int, rate: int, seconds: float, where: str) -> None:
    options, frame = CODECS[codec]
    flags = ["-movflags", "+faststart"] if where == "start" else []
    data = sample(*options, *flags, suffix="mp4", seconds=seconds, rate=rate, channels=channels)
    assert (data.index(b"moov") < data.index(b"mdat")) == (where == "start")
    found = read(data)
    assert facts(found)[1:] == (rate, channels, "mp4", len(data), None, False)
    assert found.duration == round(seconds * rate) / rate
    assert found.duration == pytest.approx(decoded(data, "mp4")[0], abs=frame / rate)


@needs_ffmpeg
@pytest.mark.parametrize("rate", [16000, 24000, 48000])
def test_opus(rate: int) -> None:
    data = sample("-c:a", "libopus", suffix="mp4", seconds=1.3, rate=rate)
    found = read(data)
    # ffmpeg tells the end of the media in the timescale of what was encoded, and the rate of Opus.
    assert (found.sample_rate, found.channels) == (48000, 1)
    assert found.duration == pytest.approx(1.3, abs=1e-4)
    assert found.duration == pytest.approx(decoded(data, "mp4")[0], abs=0.02)


@needs_ffmpeg
def test_mp3_does_not_tell_its_channels_here() -> None:
    data = sample("-c:a", "libmp3lame", suffix="mp4", seconds=1.3)
    assert facts(read(data))[:3] == (1.3, RATE, None)


@needs_ffmpeg
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("rate", [16000, 24000, 44100])
@pytest.mark.parametrize(
    "flags",
    [
        ["-movflags", "frag_keyframe+empty_moov"],
        ["-movflags", "frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "300000"],
        ["-movflags", "frag_keyframe", "-frag_duration", "200000"],
        ["-movflags", "dash+empty_moov+frag_every_frame"],
        ["-movflags", "cmaf+separate_moof", "-frag_duration", "100000"],
    ],
)
def test_fragments(codec: str, rate: int, flags: list[str]) -> None:
    options, frame = CODECS[codec]
    data = encode(*options, *flags, suffix="mp4", seconds=1.7, rate=rate, piped=True)
    found = read(*pieces(data, 777))
    assert (found.sample_rate, found.channels) == (rate, 1)
    assert found.duration == pytest.approx(decoded(data, "mp4")[0], abs=frame / rate)
    if codec != "aac":
        assert found.duration == pytest.approx(1.7, abs=1e-9)


@needs_ffmpeg
@pytest.mark.parametrize("rate", [16000, 24000, 44100])
def test_fragments_whose_edit_list_leaves_out_the_delay_of_the_encoder(rate: int) -> None:
    flags = ["-movflags", "empty_moov+delay_moov", "-frag_duration", "100000"]
    data = encode("-c:a", "aac", *flags, suffix="mp4", seconds=1.7, rate=rate, piped=True)
    # Exactly; ffmpeg decodes the delay as well.
    assert read(data).duration == 1.7


@needs_ffmpeg
def test_a_fragment_counts_when_its_last_byte_is_there() -> None:
    flags = ["-movflags", "empty_moov+default_base_moof", "-frag_duration", "300000"]
    data = encode("-c:a", "aac", *flags, suffix="mp4", seconds=1.7, piped=True)
    reader = AudioReader()
    at = 0
    brought = []
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        if name == b"mdat":
            assert reader.feed(data[at : at + size - 1]) == 0.0
            brought.append(reader.feed(data[at + size - 1 : at + size]))
        else:
            assert reader.feed(data[at : at + size]) == 0.0
        at += size
    reader.finish()
    assert [round(value * RATE / 1024, 2) for value in brought if value] == [8, 8, 8, 8, 8, 0.84]
    assert sum(filter(None, brought)) == pytest.approx(reader.duration)


@needs_ffmpeg
@pytest.mark.parametrize(
    "options",
    [
        ["-c:a", "aac"],
        ["-c:a", "aac", "-movflags", "+faststart"],
        ["-c:a", "aac", "-movflags", "empty_moov+default_base_moof", "-frag_duration", "100000"],
    ],
)
def test_split_at_every_byte(options: list[str]) -> None:
    data = sample(*options, suffix="mp4", seconds=0.3)
    whole = facts(read(data))
    assert whole[0] is not None
    for first, second in splits(data):
        assert facts(read(first, second)) == whole
    for size in (1, 3, 7, 1000):
        assert facts(read(*pieces(data, size))) == whole


@needs_ffmpeg
@pytest.mark.parametrize("options", [["-c:a", "aac"], ["-c:a", "aac", "-movflags", "+faststart"]])
def test_a_file_that_did_not_come_whole_is_unknown(options: list[str]) -> None:
    data = sample(*options, suffix="mp4", seconds=0.3)
    for length in range(12, len(data), 13):
        known = read(data[:length]).duration is not None
        # All that stands behind the audio of a faststart file is a box that nobody wants.
        assert not known, length


def test_a_whole_file_tells_its_seconds_at_once() -> None:
    for file in (FILE, FTYP + mdat() + moov(trak(10_240))):
        reader = AudioReader()
        assert reader.feed(file) == 10_240 / RATE
        reader.finish()
        assert reader.duration == 10_240 / RATE


def test_audio_before_its_length_is_known() -> None:
    header = FTYP + moov(trak(10_240))
    reader = AudioReader()
    assert [reader.feed(piece) for piece in (header, mdat()[:8])] == [0.0, 0.0]
    assert (reader.sample_rate, reader.channels) == (RATE, 1)
    assert [reader.feed(piece) for piece in (mdat()[8:100], mdat()[100:], box(b"free", bytes(9)))] == [None, None, 0.0]
    assert reader.duration == 10_240 / RATE
    reader = AudioReader()
    assert [reader.feed(piece) for piece in (FTYP, mdat()[:100], mdat()[100:])] == [0.0, None, None]
    tail = moov(trak(10_240))
    assert [reader.feed(piece) for piece in (tail[:-1], tail[-1:])] == [0.0, None]
    assert reader.duration == 10_240 / RATE


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("long", [False, True])
def test_every_version(version: int, long: bool) -> None:
    track = trak(10_240, version=version, edits=elst((300, 1024), version=version))
    file = FTYP + moov(track, version=version) + box(b"mdat", bytes(400), long=long)
    assert read(file).duration == 0.3
    assert read(*pieces(file, 1)).duration == 0.3


@pytest.mark.parametrize(
    ("edits", "frames"),
    [
        ([], 10_240),
        ([(0, 0)], 10_240),
        ([(0, 1024)], 9216),
        ([(384, 1024)], 9216),  # of a timescale of milliseconds: to the end of the media
        ([(383, 1024)], 9216),
        ([(100, 1024)], 2400),
        ([(500, -1), (100, 1024)], 2400),
        ([(100, 0), (200, 4800)], 7200),
        ([(9999, 1024)], 9216),
        ([(9999, 99_999)], 0),
        ([(9999, 0)] * 9, 10_240),
        ([(100, 0)] * 65, None),
    ],
)
def test_edit_lists(edits: list[tuple[int, int]], frames: int | None) -> None:
    file = FTYP + moov(trak(10_240, edits=elst(*edits))) + mdat()
    assert read(file).duration == (None if frames is None else frames / RATE)


@pytest.mark.parametrize(
    ("config", "channels"),
    [
        ("1308", 1),  # AAC-LC, 24 kHz, mono
        ("1310", 2),
        ("1338", 8),
        ("1300", None),  # told in the audio
        ("2b1188", 2),  # HE-AAC
        ("eb0988", 2),  # HE-AAC v2: parametric stereo
        ("178005dc08", 1),  # the rate in full
        ("f80c20", 1),  # an object type of more than five bits
        ("", None),
    ],
)
def test_channels_of_aac(config: str, channels: int | None) -> None:
    inner = esds(bytes.fromhex(config))
    described = stsd(channels=2, codec=b"mp4a", inner=box(b"free", bytes(5)) + inner)
    found = read(FTYP + moov(trak(10_240, described=described)) + mdat())
    assert (found.channels, found.duration) == (channels, 10_240 / RATE)


def test_channels_elsewhere() -> None:
    def channels(**options: object) -> int | None:
        return read(FTYP + moov(trak(10_240, described=stsd(**options))) + mdat()).channels  # type: ignore[arg-type]

    assert channels(channels=6) == 6
    assert channels(channels=0) is None
    assert channels(channels=3, version=2) is None
    assert channels(channels=2, codec=b"mp4a") is None
    assert channels(channels=2, codec=b"mp4a", inner=esds(b"\x13\x08", kind=0x6B)) is None
    assert channels(channels=2, codec=b"mp4a", inner=box(b"esds", bytes(200))) is None


def test_rates() -> None:
    def rates(timescale: int, rate: int) -> tuple[object, ...]:
        file = FTYP + moov(trak(10 * timescale, timescale=timescale, described=stsd(rate), samples=100)) + mdat()
        return facts(read(file))[:2]

    assert rates(44100, 44100) == (10, 44100)
    assert rates(96000, 0) == (10, 96000)
    assert rates(600, 24000) == (10, 24000)
    assert rates(600, 0) == rates(0, 24000) == (None, None)


def test_another_track_is_not_heard() -> None:
    video = trak(90_000, timescale=90_000, handler=b"vide", number=1)
    second = trak(48_000, number=3)
    assert read(FTYP + moov(video, trak(10_240, number=2), second) + mdat()).duration == 10_240 / RATE
    assert read(FTYP + moov(video) + mdat()).duration is None
    empty = moov(trak(0, samples=0, handler=b"vide"), trak(0, samples=0, number=2), trex(3000), trex(1024, 2))
    both = box(b"moof", box(b"traf", tfhd(1), trun(3)), box(b"traf", tfhd(2), trun(5))) + mdat()
    assert read(FTYP + empty + both * 2).duration == 10 * 1024 / RATE


@pytest.mark.parametrize(
    ("parts", "frames"),
    [
        ([tfhd(), trun(10)], 10_240),
        ([tfhd(duration=960), trun(10)], 9600),
        ([tfhd(duration=960, more=0x3), trun(10, flags=0xE05)], 9600),
        ([tfhd(duration=960), trun(3, [7, 8, 9])], 24),
        ([tfhd(), trun(3, [7, 8, 9], flags=0xF05), trun(1)], 1048),
        ([tfhd(), trun(0)], 0),
        ([tfhd(number=2), trun(10)], 0),
        ([trun(10)], 0),
    ],
)
def test_what_a_fragment_says(parts: list[bytes], frames: int) -> None:
    file = FTYP + EMPTY_MOOV + moof(*parts) + mdat()
    assert read(file).duration == frames / RATE
    assert read(*pieces(file, 1)).duration == frames / RATE
    assert read(STYP + file[len(FTYP) :]).duration == frames / RATE


def test_a_long_table_is_read_in_pieces() -> None:
    durations = list(range(1, 3001))
    for flags in (0x101, 0x705, 0xF00):
        file = FTYP + EMPTY_MOOV + moof(tfhd(), trun(3000, durations, flags), trun(1)) + mdat(4000)
        for size in (1, 1000, len(file)):
            assert read(*pieces(file, size)).duration == pytest.approx((sum(durations) + 1024) / RATE)


def test_fragments_after_a_part_in_moov() -> None:
    file = FTYP + moov(trak(10_240), trex(1024)) + mdat() + FRAGMENT * 2
    assert read(file).duration == pytest.approx(30_720 / RATE)
    tail = FTYP + mdat() + moov(trak(10_240), trex(1024)) + FRAGMENT * 2
    assert read(*pieces(tail, 5)).duration == pytest.approx(30_720 / RATE)


def test_a_moov_that_knows_the_length_of_the_fragments() -> None:
    file = FTYP + moov(trak(20_480, samples=0), trex(1024)) + FRAGMENT * 2
    assert read(file).duration == 20_480 / RATE


def test_the_delay_of_the_encoder_before_fragments() -> None:
    empty = moov(trak(0, samples=0, edits=elst((0, 12_000))), trex(1024))
    assert read(FTYP + empty + FRAGMENT * 3).duration == pytest.approx((30_720 - 12_000) / RATE)


def test_fragments_of_another_timescale_do_not_round_up() -> None:
    empty = moov(trak(0, samples=0, timescale=1000), trex(7))
    fragment = moof(tfhd(), trun(1)) + mdat(60)
    found = read(*pieces(FTYP + empty + fragment * 1000, len(fragment)))
    assert found.duration == 7.0


def test_a_fragment_that_did_not_come_whole() -> None:
    file = FTYP + EMPTY_MOOV + FRAGMENT
    whole = len(file)
    for length in range(whole, whole + len(FRAGMENT) - 400):
        assert read((file + FRAGMENT)[:length]).duration == 10_240 / RATE
    for length in range(whole + len(FRAGMENT) - 399, whole + len(FRAGMENT)):
        assert read((file + FRAGMENT)[:length]).duration is None


def test_no_fragment_has_come_yet() -> None:
    assert facts(read(FTYP + EMPTY_MOOV))[:3] == (0.0, RATE, 1)
    assert read(FTYP + moov(trak(10_240))).duration is None
    assert read(FRAGMENT).duration is None
    assert read(STYP + FRAGMENT).duration is None


def test_several_in_a_row() -> None:
    tail = FTYP + mdat() + moov(trak(4800))
    stream = FTYP + EMPTY_MOOV + FRAGMENT
    other = FTYP + moov(trak(16_000, timescale=16_000, described=stsd(16_000))) + mdat()
    file = FILE + tail + stream + other + stream
    for size in (1, 100, len(file)):
        assert read(*pieces(file, size)).duration == pytest.approx((3 * 10_240 + 4800) / RATE + 1)
    assert read(FILE + FTYP + moov(trak(10_240))).duration is None
    assert read(FTYP + mdat() + FILE).duration is None
    assert read(FTYP + moov(trak(10_240)) + moov(trak(4800)) + mdat()).duration is None
    # An initialization that is sent again.
    assert read(stream + EMPTY_MOOV + FRAGMENT).duration == pytest.approx(20_480 / RATE)


def test_to_the_end() -> None:
    endless = b"\0\0\0\0" + mdat()[4:]
    assert read(FTYP + moov(trak(10_240)) + endless).duration == 10_240 / RATE
    assert read(FTYP + mdat() + b"\0\0\0\0" + moov(trak(10_240))[4:]).duration == 10_240 / RATE
    assert read(FTYP + mdat() + b"\0\0\0\0" + moov(trak(10_240))[4:-9]).duration is None
    assert read(FILE + bytes(1000)).duration == 10_240 / RATE
    assert read(FILE + box(b"mfra", bytes(50))).duration == 10_240 / RATE


def test_audio_in_two_parts() -> None:
    assert read(FTYP + mdat(5) + mdat(5) + moov(trak(10_240))).duration == 10_240 / RATE
    assert read(FTYP + moov(trak(10_240)) + mdat(5) + mdat(5)).duration == 10_240 / RATE
    assert read(FTYP + moov(trak(10_240)) + mdat(50) + mdat(50)[:-1]).duration is None


def test_numbers_that_the_bytes_cannot_hold() -> None:
    for track in (
        trak(2**31),
        trak(2**62, version=1),
        trak(0xFFFFFFFF),
        trak(2**64 - 1, version=1),
        trak(10_240, samples=401),
        trak(10_240, samples=2**31, size=4),
        trak(10_240, samples=300, size=2),
        trak(10_240).replace(b"stsz", b"free"),
    ):
        assert read(FTYP + moov(track) + mdat()).duration is None
    for parts in (
        [tfhd(), trun(401)],
        [tfhd(duration=2**32 - 1), trun(1)],
        [tfhd(), trun(2**32 - 1, [1])],
        [tfhd(), trun(5)[:-4].replace(b"\0\0\0\x24trun", b"\0\0\0\x20trun")],
    ):
        assert read(FTYP + EMPTY_MOOV + moof(*parts) + mdat()).duration is None
    assert read(FTYP + moov(trak(0xFFFFFFFF, samples=70_000)) + mdat(70_000)).duration is None
    # The bytes before a fragment are none of its own.
    assert read(FTYP + EMPTY_MOOV + mdat() + moof(tfhd(), trun(10)) + mdat(5)).duration is None
    no_default = moov(trak(0, samples=0))
    assert read(FTYP + no_default + FRAGMENT).duration is None


def test_boxes_that_leave_their_parent() -> None:
    broken = box(b"moov", box(b"trak", b"\0\0\xff\xffmdia" + bytes(50)))
    assert read(FTYP + broken + moov(trak(10_240)) + mdat()).duration == 10_240 / RATE
    assert read(FTYP + box(b"moov", bytes(3)) + moov(trak(10_240)) + mdat()).duration == 10_240 / RATE
    assert read(FTYP + struct.pack(">I4s", 7, b"free") + moov(trak(10_240)) + mdat()).duration is None


@pytest.mark.parametrize(
    "data",
    [
        FTYP + box(b"free") * 40_000,
        FTYP + box(b"moof") * 40_000,
        FTYP + box(b"moov", box(b"trak") * 40_000),
        FTYP + EMPTY_MOOV + (moof(tfhd(), trun(1, flags=0)) + mdat(1)) * 5000,
        FTYP + b"\xff" * 400_000,
    ],
)
def test_boxes_that_make_no_sense(data: bytes) -> None:
    begin = time.thread_time()
    found = read(data)
    assert time.thread_time() - begin < 0.05
    assert found.duration is None


def test_little_is_held() -> None:
    reader = AudioReader()
    edits = elst(*[(1, 1)] * 64, version=1)
    file = FTYP + moov(trak(10_240, edits=edits, samples=100_000)) + EMPTY_MOOV
    for piece in pieces(file + moof(tfhd(), trun(20_000, [5] * 20_000, 0xF00)), 1000):
        reader.feed(piece)
        held = reader._stream
        assert held is None or sum(len(value) for value in vars(held).values() if isinstance(value, bytes)) < 8192


PARTS = [FTYP, STYP, moov(trak(10_240)), EMPTY_MOOV, FRAGMENT, mdat(), FRAGMENT[:70], box(b"free", bytes(9))]


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from(PARTS)), max_size=8), st.integers(1, 500))
def test_any_bytes_in_any_split(parts: list[bytes], size: int) -> None:
    file = FTYP + b"".join(parts)
    assert facts(read(*pieces(file, size))) == facts(read(file))


@given(st.binary(min_size=1, max_size=12), st.integers(0, 1200), st.integers(1, 300), st.booleans())
def test_broken_headers_never_raise(noise: bytes, at: int, size: int, fragmented: bool) -> None:
    file = bytearray(FTYP + EMPTY_MOOV + FRAGMENT * 3 if fragmented else FILE)
    file[at : at + len(noise)] = noise
    found = read(*pieces(bytes(file), size))
    assert facts(found) == facts(read(bytes(file)))
    assert found.duration is None or found.duration < 3600
