"""Audio inside something: tuples, lists, dicts, objects, batches."""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from audio_samples import RATE, facts, pcm16, read, tone, wav
from conftest import Spans

from ttstrace import traced_synthesis
from ttstrace.audio import AudioReader

N = 2400
AUDIO = np.zeros(N, np.float32)


class Carrier:
    def __init__(self, **attributes: object) -> None:
        vars(self).update(attributes)


class Named(NamedTuple):
    text: str
    audio: object
    durations: object
    sample_rate: int


class OnDevice:
    """A tensor on another device: whoever reads its values would copy them to the host."""

    def __init__(self, *shape: int, dtype: str = "float32") -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = "cuda:0"

    def _copied(self, *_: object) -> Any:
        raise AssertionError("copied from the device")

    __array__ = __getitem__ = __iter__ = __len__ = tolist = cpu = numpy = _copied


@pytest.mark.parametrize(
    "value",
    [
        (AUDIO,),
        (AUDIO, None),
        (AUDIO, 512),
        ("text", AUDIO),
        ("graphemes", "phonemes", AUDIO),
        (AUDIO.reshape(1, N), np.array([0.1], np.float32)),  # supertonic: its own idea of the seconds
        (np.array([0.1, 0.2], np.float32), AUDIO),
        ([0.1] * 5, AUDIO),
        (AUDIO, {"step": 1}),
        (AUDIO, np.zeros((80, 100), np.float32)),  # a spectrogram
        (OnDevice(1, N), "text"),
        (pcm16([0.0] * N), "text"),
        ({"audio": AUDIO}, "text"),
        (None, array("f", [0.0] * N)),
        ([0.0] * N, "text"),
        Named("text", AUDIO, np.zeros(100), RATE),
    ],
    ids=range(16),
)
def test_a_tuple_that_holds_one_audio(value: tuple[object, ...]) -> None:
    assert read(value, rate=RATE, format="pcm").duration == 0.1


def test_pairs_chunk_by_chunk() -> None:
    for swap in (False, True):
        rates = (RATE, RATE, RATE, RATE * 2, RATE * 2, RATE, 8)
        reader = AudioReader(onset=False)
        seconds = [reader.feed((rate, AUDIO) if swap else (AUDIO, rate)) for rate in rates]
        assert seconds[:6] == [0.1, 0.1, 0.1, 0.05, 0.05, 0.1]
        assert (reader.duration, reader.sample_rate) == (pytest.approx(0.6), RATE)  # 8 is none: the last one holds


def test_few_pieces_beside_figures() -> None:
    for figures in (np.array([0.1, 0.2]), [0.1, 0.2]):
        assert read(([AUDIO, AUDIO], figures), rate=RATE).duration == 0.2


def test_attributes_that_are_methods_and_channels_that_are_none() -> None:
    class Result:
        samples = AUDIO

        def audio(self) -> None: ...

        def sample_rate(self) -> int:
            return 8000

    assert read(Result(), rate=RATE).duration == 0.1
    for channels in (0, -1, 9, 1.0, "2", True, None):
        assert facts(read({"audio": AUDIO, "channels": channels}, rate=RATE))[:3] == (0.1, RATE, 1)


def test_a_rate_anywhere_in_a_tuple() -> None:
    assert read(("text", AUDIO, RATE)).duration == 0.1
    assert read((AUDIO, "text", RATE)).duration == 0.1
    assert read((AUDIO, "text", RATE, 8000)).duration is None  # which?
    assert read((AUDIO, "text", RATE, 8000), rate=RATE).duration == 0.1


def test_a_tuple_that_holds_none_or_several() -> None:
    for value in ((), ("text",), (None, None), (1.5, "x"), (AUDIO, AUDIO), (AUDIO, pcm16(tone(N))), ([], {}, "x")):
        assert read(value, rate=RATE, format="pcm").duration is None
    assert read(tuple([AUDIO] + [None] * 50), rate=RATE).duration is None  # no result, a collection


def test_lengths_beside_what_is_no_audio() -> None:
    """A spectrogram, its length, an alignment: what is there of one dimension is no audio for that."""
    mel, alignment = np.zeros((1, 80, 100), np.float32), np.zeros((1, 100, 20), np.float32)
    for value in ((mel, np.array([100]), alignment), (mel, np.array([100])), (np.array([100]), mel)):
        assert read(value, rate=RATE).duration is None


def test_lengths_beside_a_rate() -> None:
    two = np.zeros((2, N), np.float32)
    for value in ((two, RATE, [N, N // 2]), (RATE, two, np.array([N, N // 2])), (two, RATE, "text", [N, N // 2])):
        found = batch(value, 2, rate=8000)
        assert (found.duration, found.sample_rate, found.batch_size) == (pytest.approx(0.15), RATE, 2)
    spectrogram = np.zeros((100, 9), np.float32)
    assert read((AUDIO, RATE, spectrogram)).duration == 0.1  # f5-tts
    assert read((two, RATE, [N, N // 2], [1, 2])).channels == 2  # which?


def test_what_comes_between_chunks_and_holds_no_audio() -> None:
    data = pcm16(tone(N))
    audio = {"type": "audio", "data": data}
    for event in (
        {"type": "WordBoundary", "offset": 1_000_000, "duration": 5_000, "text": "hello"},  # edge-tts
        {"type": "alignment", "words": ["a", "b"], "start": [0.0, 0.5], "final": None},
        {"type": "done", "usage": {"characters": 5}, "url": "https://example.com/" + "a" * 80},
        {"text": "가" * 100, "characters": list("hello") * 30},
        {},
        ("graphemes", "phonemes", None),  # kokoro, of a text without a sound
        (),
    ):
        reader = AudioReader(format="pcm_24000")
        assert [reader.feed(each) for each in (event, audio, event, audio)] == [0.0, 0.1, 0.0, 0.1]
        assert (reader.duration, reader.size) == (0.2, 2 * len(data))
        assert read(event, rate=RATE, format="pcm").duration is None
    for unknown in (
        {"type": "chunk", "payload": data},
        {"chunk": {"payload": [data]}},
        {"payload": base64.b64encode(data).decode()},
        {"payload": "data:audio/wav;base64," + base64.b64encode(data).decode()},
        {"payload": [0.0] * N},
        {"payload": object()},
        {"a": {"b": {"c": {"d": {"e": {"f": data}}}}}},
        {str(at): at for at in range(10_000)},
        (data, data),
        Carrier(type="WordBoundary"),
    ):
        assert AudioReader(format="pcm_24000").feed(unknown) is None


def test_no_bytes_of_a_format_and_a_rate_that_their_carrier_says() -> None:
    for value in (
        {"audio": b"", "format": "wav", "sample_rate": RATE},
        Carrier(audio_data=b"", format="mp3", sample_rate=RATE),
        {"audio": [b"", b""], "format": "pcm_24000"},
    ):
        assert facts(read(value, value))[:2] == (0.0, RATE)
    assert read(Carrier(audio_data=b"", sample_rate=RATE)).duration is None
    assert read(Carrier(audio_data=b"", format="mp3")).duration is None


def test_the_rate_of_a_header_holds_against_its_carrier_s() -> None:
    data = wav(pcm16(tone(N)))
    frames = (bytes([0xFF, 0xF3, 0x64, 0xC0]) + bytes(140)) * 10
    for parts in ([data[:1000], data[1000:2000], b"", data[2000:]], [frames[:700], b"", frames[700:]]):
        found = read(*({"audio": part, "sample_rate": 8000} for part in parts), {"audio": b"", "sample_rate": 8000})
        assert (found.duration, found.sample_rate) == (pytest.approx(0.1 if parts[0][:1] == b"R" else 0.24), RATE)


def test_figures_under_a_name_that_is_not_audio_s_own() -> None:
    for value in ([1, 2, 3], [0.0] * N, AUDIO, array("f", AUDIO)):
        assert read({"status": "ok", "data": value}, rate=RATE).duration is None
        assert read({"data": value, "sample_rate": RATE}).duration == len(value) / RATE
    assert read({"data": {"audio": AUDIO}}, rate=RATE).duration == 0.1


def test_lists_of_arrays() -> None:
    assert read([AUDIO, AUDIO], rate=RATE).duration == 0.2
    assert facts(read([AUDIO, AUDIO.reshape(1, N)], rate=RATE))[:5] == (0.2, RATE, 1, "pcm_f32le", N * 8)
    assert read(([AUDIO, AUDIO], RATE)).duration == 0.2  # qwen-tts
    assert read({"audio": [AUDIO] * 3, "sampling_rate": RATE}).duration == pytest.approx(0.3)
    assert read([{"audio": AUDIO, "sampling_rate": RATE}] * 2).duration == 0.2  # transformers' pipeline
    assert read([(AUDIO, RATE), (AUDIO, RATE * 2)]).duration == pytest.approx(0.15)
    assert read([[0.0] * N, [0.0] * N], rate=RATE).duration == 0.2
    assert read([pcm16([0.0] * N)] * 2, rate=RATE, format="pcm").duration == 0.2
    assert read([AUDIO, None, AUDIO], rate=RATE).duration == 0.2
    assert read([AUDIO, "text"], rate=RATE).duration is None
    assert read([[[[[[AUDIO]]]]]], rate=RATE).duration is None
    assert read([AUDIO] * 10_001, rate=RATE).duration is None
    # Onset is found across them.
    silent, loud = np.zeros(N, np.float32), np.asarray(tone(N), np.float32)
    assert read([silent, loud], rate=RATE).onset == pytest.approx(0.1)


def batch(value: object, texts: int | None, rate: int = RATE, format: str | None = None) -> AudioReader:
    reader = AudioReader(rate, format, texts=texts)
    assert reader.feed(value) == pytest.approx(reader.duration)
    reader.finish()
    return reader


def test_as_many_parts_as_texts_are_a_batch() -> None:
    three = np.zeros((3, N), np.float32)
    as_channels = batch(three, None)
    assert (as_channels.duration, as_channels.channels, as_channels.batch_size) == (0.1, 3, None)
    found = batch(three, 3)
    assert facts(found)[:5] == (pytest.approx(0.3), RATE, 1, "pcm_f32le", 3 * N * 4)
    assert found.batch_size == 3
    assert facts(batch(np.zeros((3, 2, N), np.int16), 3))[:3] == (pytest.approx(0.3), RATE, 2)
    assert batch(np.zeros((20, N), np.float32), 20).duration == pytest.approx(2.0)  # more than channels can be
    for value in ([AUDIO] * 3, (AUDIO, AUDIO, AUDIO), [{"audio": AUDIO}] * 3, [(AUDIO, RATE)] * 3):
        assert (batch(value, 3).duration, batch(value, 3).batch_size) == (pytest.approx(0.3), 3)
    # Each item is audio like any other.
    assert facts(batch([np.zeros((2, N))] * 2, 2))[:3] == (0.2, RATE, 2)
    # One for all of them, or one of each two: no batch.
    assert (batch(AUDIO, 3).duration, batch(AUDIO, 3).batch_size) == (0.1, None)
    assert batch([AUDIO] * 2, 3).batch_size is None
    assert batch(np.zeros((2, N), np.float32), 3).channels == 2
    # A single text in a list.
    assert (batch(np.zeros((1, N)), 1).duration, batch(np.zeros((1, N)), 1).batch_size) == (0.1, 1)


def test_a_batch_inside_something() -> None:
    for value in (([AUDIO] * 3, RATE), (RATE, [AUDIO] * 3), {"audio": np.zeros((3, N), np.float32)}):
        found = batch(value, 3)
        assert (found.duration, found.channels, found.batch_size) == (pytest.approx(0.3), 1, 3)
    # An item of a batch is none itself.
    assert (batch([np.zeros((2, N))] * 2, 2).channels, batch([[AUDIO] * 2] * 2, 2).duration) == (2, pytest.approx(0.4))


def test_a_stream_of_one_text_in_a_list_is_listened_to() -> None:
    reader = AudioReader(RATE, texts=1)
    for _ in range(2):
        reader.feed(np.asarray([tone(N)], np.float32))
    assert (reader.onset, reader.batch_size, reader.channels) == (0.0, 1, 1)


def test_lengths_of_all_are_not_those_of_each() -> None:
    stereo = np.zeros((2, N), np.float32)
    assert facts(batch({"audio": [stereo] * 2, "lengths": [N, N // 2]}, None))[:3] == (0.2, RATE, 2)
    # Nor is any longer than what holds it.
    assert batch((stereo, [N * 2, N // 2]), None).duration == pytest.approx(0.15)


def test_carriers_in_carriers() -> None:
    """What is nearer to the audio holds."""
    data = pcm16(tone(N))
    inner = {"data": data, "sample_rate": RATE, "channels": 2, "format": "pcm_s16le"}
    outer = {"audio": inner, "sample_rate": 8000, "channels": 1, "format": "pcm_f32le"}
    assert facts(read(outer))[:4] == (0.05, RATE, 2, "pcm_s16le")
    assert facts(read({**outer, "audio": {"data": data}}))[:4] == (N / 2 / 8000, 8000, 1, "pcm_f32le")
    assert batch(({"waveform": np.zeros((3, N), np.float32)}, [N, N, N // 2]), None).duration == pytest.approx(0.25)


LENGTHS = [N, N // 2, N // 4]


@pytest.mark.parametrize("lengths", [LENGTHS, np.array(LENGTHS), np.array(LENGTHS, np.int32), list(np.array(LENGTHS))])
def test_a_batch_by_its_lengths(lengths: object) -> None:
    """VITS: read as channels, three texts gave the longest's seconds."""
    seconds = pytest.approx(0.175)
    three = np.zeros((3, N), np.float32)
    for value in (
        {"waveform": three, "sequence_lengths": lengths},
        Carrier(waveform=three, sequence_lengths=lengths),
        (three, lengths),
        (three, lengths, "spectrogram"),
    ):
        for texts in (None, 3):
            found = batch(value, texts)
            assert (found.duration, found.channels, found.batch_size) == (seconds, 1, 3)
    assert batch((np.zeros((1, N), np.float32), [N // 2]), None).duration == 0.05
    # Lengths of something else.
    for other in ([1, 2], "abc", [0.5, 1.0, 1.0], [-1, -1, -1], {}, object()):
        assert batch({"waveform": three, "lengths": other}, None).channels == 3


def test_lengths_on_a_device_are_not_copied_from_it() -> None:
    for value in (
        {"waveform": OnDevice(3, N), "sequence_lengths": OnDevice(3, dtype="int64")},
        (OnDevice(3, N), OnDevice(3, dtype="int64")),
    ):
        reader = AudioReader(RATE)
        assert reader.feed(value) is None
        assert (reader.duration, reader.batch_size, reader.size) == (None, 3, 3 * N * 4)
    alone = AudioReader(RATE)
    assert alone.feed((OnDevice(1, N), OnDevice(1, dtype="int64"))) == 0.1  # there is nothing that it is padded to


def test_tensors() -> None:
    torch = pytest.importorskip("torch")
    for dtype, name in ((torch.float32, "pcm_f32le"), (torch.bfloat16, "pcm_bf16le"), (torch.int16, "pcm_s16le")):
        for shape, channels in (((N,), 1), ((1, N), 1), ((2, N), 2), ((1, 1, N), 1)):
            found = read(torch.zeros(shape, dtype=dtype), rate=RATE)
            assert facts(found)[:4] == (0.1, RATE, channels, name)
            assert found.readable
    sound = torch.tensor([[0.0] * 480 + tone(N - 480)], requires_grad=True)
    assert read(sound, rate=RATE).onset == pytest.approx(0.02)
    # A tensor without any memory: reading a value of it raises.
    nowhere = torch.zeros((1, N), device="meta")
    assert facts(read(nowhere, rate=RATE)) == (0.1, RATE, 1, "pcm_f32le", N * 4, None, False)
    found = batch((torch.zeros(3, N), torch.tensor(LENGTHS)), None)
    assert (found.duration, found.batch_size) == (pytest.approx(0.175), 3)
    lengths = torch.tensor(LENGTHS, device="meta")
    assert AudioReader(RATE).feed((torch.zeros(3, N, device="meta"), lengths)) is None


def test_a_carrier_names_the_format() -> None:
    data = pcm16(tone(N))
    for value in (
        {"data": data, "mime_type": "audio/L16;codec=pcm;rate=24000"},  # Gemini
        Carrier(data=data, mime_type="audio/L16;codec=pcm;rate=24000"),
        {"audio": data, "format": "pcm_24000"},
        Carrier(audio_data=data, encoding="linear16", sample_rate=RATE),
    ):
        assert facts(read(value, value))[:4] == (0.2, RATE, 1, "pcm_s16le")
    # What the program says, and what the bytes say, is surer.
    assert read({"audio": data, "format": "pcm_24000"}, rate=48000).duration == 0.05
    assert read({"audio": wav(data), "format": "pcm_8000"}).duration == 0.1
    assert read(Carrier(audio_data=wav(data), format="mp3")).format == "wav"


def test_base64_fields() -> None:
    data = pcm16(tone(N))
    for encode in (base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes):
        text = encode(data).decode()
        for value in ({"audio_base64": text}, Carrier(audio_base_64=text, alignment=None), {"audioContent": text}):
            assert facts(read(value, value, format="pcm_24000")) == (0.2, RATE, 1, "pcm_s16le", 4 * N, 0.0, True)
        assert read({"audio": encode(wav(data)).decode()}).duration == 0.1
        unpadded = encode(data[:-2]).decode().rstrip("=\n")
        assert read({"audio": unpadded}, format="pcm_24000").duration == (N - 1) / RATE
    assert read({"audio": "data:audio/L16;rate=24000;base64," + base64.b64encode(data).decode()}).duration == 0.1
    assert read({"audio": "data:audio/wav;base64," + base64.b64encode(wav(data)).decode()}).duration == 0.1
    assert read({"audio": "data:audio/basic;base64," + base64.b64encode(bytes(800)).decode()}).duration == 0.1
    for other in ("https://example.com/speech.wav", "/tmp/speech.wav", "no audio", "\udcff", "한국어"):
        assert read({"audio": other}, rate=RATE, format="pcm").duration is None
    assert AudioReader(RATE, "pcm").feed({"audio": ""}) == 0.0
    # A text that was not named as audio is none, whatever it looks like.
    assert read(base64.b64encode(data).decode(), rate=RATE, format="pcm").duration is None
    assert read((base64.b64encode(data).decode(), RATE), format="pcm").duration is None


def test_texts_that_only_look_like_base64() -> None:
    data = pcm16(tone(N))
    for word in (
        "550e8400-e29b-41d4-a716-446655440000", "d41d8cd98f00b204e9800998ecf8427e", "a" * 40, "0" * 64,
        "outputs/speech/sentence0001", "Donaudampfschifffahrt", "completed_successfully", data.hex(),
    ):  # fmt: skip
        for value in ({"audio": word}, Carrier(audio=word), {"data": {"audio": word}}):
            assert read(value, rate=RATE, format="pcm").duration is None
    # A header alone is enough, and so is anything after what was long enough.
    texts = [base64.b64encode(part).decode() for part in (wav(data)[:44], wav(data)[44:-1], data[-1:])]
    assert read(*({"audio": text} for text in texts)).duration == 0.1
    assert read({"audio": "data:audio/pcm;rate=24000;base64,AAAA"}).duration == 1 / RATE


def test_a_named_value_that_is_not_there() -> None:
    assert AudioReader(RATE).feed({"audio": None}) == 0.0
    data = base64.b64encode(pcm16(tone(N))).decode()
    assert read({"audio": None, "audio_base64": data}, rate=RATE, format="pcm").duration == 0.1


def test_the_span_of_a_batch(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(texts: list[str]) -> object:
        return np.zeros((len(texts), N), np.float32)

    speak(["one", "two", "three"])
    span = spans.attributes()
    assert span["tts.batch.size"] == 3
    assert span["tts.input.characters"] == 11
    assert span["tts.audio.duration"] == pytest.approx(0.3)
    assert span["tts.audio.channels"] == 1
    assert span["tts.rtf"] == pytest.approx(span["tts.synthesis.duration"] / 0.3)


def test_no_batch_without_a_list(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(text: str) -> object:
        return np.zeros((2, N), np.float32)

    speak("one")
    span = spans.attributes()
    assert "tts.batch.size" not in span
    assert (span["tts.audio.duration"], span["tts.audio.channels"]) == (0.1, 2)


def test_a_batch_that_comes_in_pieces(spans: Spans) -> None:
    @traced_synthesis(sample_rate=RATE)
    def speak(texts: list[str]) -> Iterator[object]:
        for _ in range(2):
            yield np.zeros((len(texts), N), np.float32)

    list(speak(["one", "two"]))
    assert spans.attributes()["tts.batch.size"] == 2
    assert spans.attributes()["tts.audio.duration"] == pytest.approx(0.4)
