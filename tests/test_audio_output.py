"""What a call wrote: paths, Wave_write, file-likes; and what it only read."""

from __future__ import annotations

import gzip
import io
import os
import wave
from pathlib import Path

import pytest
from audio_samples import RATE, facts, pcm16, read, tone, wav
from conftest import Spans

from ttstrace import traced_synthesis
from ttstrace.audio import OUTPUT_ARGUMENTS, AudioReader, OutputFile, ReturnedFile

N = 2400
FILE = wav(pcm16(tone(N)))


def written(target: OutputFile) -> AudioReader | None:
    reader = AudioReader()
    changed = target.read(reader)
    reader.finish()
    return reader if changed else None


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_a_path_that_was_written(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "out.wav"
    target = OutputFile(kind(path))
    path.write_bytes(FILE)
    found = written(target)
    assert found is not None
    assert facts(found)[:5] == (0.1, RATE, 1, "wav", len(FILE))


def test_a_path_that_was_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"old")
    os.utime(path, ns=(1, 1))
    target = OutputFile(path)
    path.write_bytes(FILE)
    found = written(target)
    assert found is not None
    assert found.duration == 0.1
    # The same size, and another time.
    target = OutputFile(path)
    os.utime(path, ns=(2, 2))
    assert written(target) is not None


def test_a_path_that_was_not_written(tmp_path: Path) -> None:
    path = tmp_path / "reference.wav"
    path.write_bytes(FILE)
    target = OutputFile(path)
    path.read_bytes()
    reader = AudioReader()
    assert target.read(reader) is False
    assert facts(reader) == facts(AudioReader())
    assert written(OutputFile(tmp_path / "absent.wav")) is None
    assert written(OutputFile("Hello, this is no path.\0")) is None
    assert written(OutputFile("x" * 100_000)) is None


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    fifo, folder = tmp_path / "fifo", tmp_path / "folder"
    early = OutputFile(fifo), OutputFile(folder)
    os.mkfifo(fifo)
    folder.mkdir()
    for target in (*early, OutputFile(fifo), OutputFile("/dev/zero"), OutputFile(1), OutputFile(True)):
        assert written(target) is None


def test_an_empty_file_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "out.mp3"
    target = OutputFile(path)
    path.touch()
    found = written(target)
    assert found is not None
    assert (found.duration, found.size) == (None, 0)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    target = OutputFile(path)
    path.write_bytes(FILE)
    path.chmod(0)
    found = written(target)
    assert found is not None
    assert found.duration is None


def test_wave_write() -> None:
    with wave.open(io.BytesIO(), "wb") as writer:
        target = OutputFile(writer)
        writer.setparams((2, 2, RATE, 0, "NONE", ""))
        writer.writeframes(bytes(4 * N))
        found = written(target)
        assert found is not None
        assert facts(found) == (0.1, RATE, 2, "wav", 4 * N, None, False)
        # Only what this call wrote.
        target = OutputFile(writer)
        assert written(target) is None
        writer.writeframes(bytes(4 * N * 2))
        found = written(target)
        assert found is not None
        assert found.duration == 0.2
    assert written(target) is not None


def test_wave_write_of_nothing() -> None:
    with wave.open(io.BytesIO(), "wb") as writer:
        target = OutputFile(writer)
        assert written(target) is None
        writer.setparams((1, 2, RATE, 0, "NONE", ""))
        found = written(target)
        assert found is not None
        assert found.duration == 0.0


def test_a_file_like_that_grew() -> None:
    file = io.BytesIO()
    for _ in range(2):  # the second time after what the first left
        target = OutputFile(file)
        file.write(FILE)
        file.seek(5)
        found = written(target)
        assert found is not None
        assert facts(found)[:5] == (0.1, RATE, 1, "wav", len(FILE))
        assert file.tell() == 5
        file.seek(0, io.SEEK_END)


def test_a_file_like_written_from_where_it_stood() -> None:
    file = io.BytesIO(b"old")
    target = OutputFile(file)
    file.write(FILE)
    found = written(target)
    assert found is not None
    assert (found.duration, found.size) == (0.1, len(FILE))
    file = io.BytesIO(bytes(100_000))
    target = OutputFile(file)
    file.truncate()
    file.write(FILE)
    found = written(target)
    assert found is not None
    assert found.duration == 0.1


def test_a_file_like_that_was_emptied_first() -> None:
    file = io.BytesIO(bytes(100_000))
    file.seek(1000)
    target = OutputFile(file)
    file.seek(0)
    file.truncate()
    file.write(FILE)
    found = written(target)
    assert found is not None
    assert (found.duration, found.size) == (0.1, len(FILE))


def test_a_file_like_that_does_not_say_where_it_went() -> None:
    class Wrapper(io.BytesIO):  # as tempfile's was before Python 3.11
        def seek(self, *args: int) -> None:  # type: ignore[override]
            super().seek(*args)

    file = Wrapper()
    target = OutputFile(file)
    file.write(FILE)
    found = written(target)
    assert found is not None
    assert (found.duration, file.tell()) == (0.1, len(FILE))


def test_a_file_like_that_was_read() -> None:
    file = io.BytesIO(FILE)
    target = OutputFile(file)
    file.read()
    assert written(target) is None
    assert file.tell() == len(FILE)


def test_a_file_that_cannot_be_read_gives_its_size(tmp_path: Path) -> None:
    with (tmp_path / "out.wav").open("wb") as file:
        file.write(b"before")
        target = OutputFile(file)
        file.write(FILE)
        found = written(target)
        assert found is not None
        assert facts(found)[:5] == (None, None, None, None, len(FILE))
        assert file.tell() == 6 + len(FILE)
    assert (tmp_path / "out.wav").read_bytes() == b"before" + FILE


def test_a_file_like_that_cannot_seek() -> None:
    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            return 1

    pipe = Pipe()
    target = OutputFile(pipe)
    pipe.write(FILE)
    assert written(target) is None
    packed = io.BytesIO()
    with gzip.open(packed, "wb") as file:
        target = OutputFile(file)
        file.write(FILE)
        assert written(target) is None
    assert gzip.decompress(packed.getvalue()) == FILE


def test_a_file_like_that_was_closed() -> None:
    file = io.BytesIO()
    target = OutputFile(file)
    file.write(FILE)
    file.close()
    assert written(target) is None


def test_arguments_in_the_order_of_the_design() -> None:
    assert OUTPUT_ARGUMENTS[0] == "path"
    assert OUTPUT_ARGUMENTS[-2:] == ("savefile", "fp")
    assert len(set(OUTPUT_ARGUMENTS)) == len(OUTPUT_ARGUMENTS) == 15


def test_the_whole_of_a_big_mp3(tmp_path: Path) -> None:
    frame = bytes([0xFF, 0xF3, 0x64, 0xC0]) + bytes(140)
    path = tmp_path / "out.mp3"
    target = OutputFile(path)
    path.write_bytes(frame * 5000)
    found = written(target)
    assert found is not None
    assert found.duration == pytest.approx(5000 * 576 / 24000)
    assert found.duration == read(frame * 5000).duration


def returned(path: object, since: int) -> AudioReader | None:
    reader = AudioReader(onset=False)
    found = ReturnedFile(path, since).read(reader)
    reader.finish()
    return reader if found else None


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_that_a_call_made_up_and_returned(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(wav(pcm16(tone(2400))))
    written = path.stat().st_mtime_ns
    found = returned(kind(path), written - 1000)
    assert found is not None
    assert (found.duration, found.format) == (0.1, "wav")
    # Made before the call: something that it found.
    assert returned(kind(path), written + 1_000_000_000) is None


def test_what_is_returned_and_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for value in (tmp_path / "pipe", tmp_path, tmp_path / "none", "done", "", "x" * 5000, "a\0b", "\udcff", 3, b"x"):
        assert returned(value, 0) is None


def test_the_span_of_a_returned_path(spans: Spans, tmp_path: Path) -> None:
    @traced_synthesis
    def speak(text: str) -> str:
        path = tmp_path / "speech.wav"
        path.write_bytes(wav(pcm16(tone(2400))))
        return str(path)

    @traced_synthesis
    def cached(text: str) -> str:
        return str(old)

    old = tmp_path / "old.wav"
    old.write_bytes(wav(pcm16(tone(2400))))
    os.utime(old, (1_000_000_000, 1_000_000_000))
    assert speak("hello") == str(tmp_path / "speech.wav")
    assert spans.all()[-1].attributes["tts.audio.duration"] == 0.1  # type: ignore[index]
    cached("hello")
    assert "tts.audio.duration" not in spans.all()[-1].attributes  # type: ignore[operator]


def test_the_audio_is_at_the_argument_whose_file_changed(spans: Spans, tmp_path: Path) -> None:
    """The first of these names may be that of an input."""
    reference = tmp_path / "reference.wav"
    reference.write_bytes(wav(pcm16(tone(N * 7))))

    @traced_synthesis
    def clone(text: str, path: object, file: object = None, output_path: object = None, fp: object = None) -> object:
        Path(str(output_path)).write_bytes(FILE)
        return result

    result: object = None
    for each in (None, str(tmp_path / "out.wav"), {"seconds": 0.5}):
        spans.clear()
        result = each
        clone("hello", reference, io.BytesIO(FILE), tmp_path / "out.wav", 3)
        assert spans.attributes()["tts.audio.duration"] == 0.1
    spans.clear()
    clone("hello", tmp_path / "absent.wav", output_path=tmp_path / "out.wav")
    assert spans.attributes()["tts.audio.duration"] == 0.1


def test_a_file_like_of_samples() -> None:
    """soundfile.SoundFile: its positions are frames, not bytes."""

    class SoundFile:
        def __init__(self) -> None:
            self.frames = 0
            self.position = 0

        def seekable(self) -> bool:
            return True

        def tell(self) -> int:
            return self.position

        def seek(self, frames: int, whence: int = 0) -> int:
            self.position = self.frames + frames if whence == io.SEEK_END else frames
            return self.position

        def read(self, frames: int = -1) -> list[float]:
            raise RuntimeError("opened for writing")

        def write(self, data: list[float]) -> None:
            self.frames += len(data)
            self.position = self.frames

    file = SoundFile()
    target = OutputFile(file)
    file.write([0.0] * N)
    assert written(target) is None
    assert read(file).size is None
