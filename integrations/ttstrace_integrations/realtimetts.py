"""RealtimeTTS: a stream that is fed with text, has an engine synthesize it in a thread, and plays it in another."""

from ttstrace.call import Call
from ttstrace.instrumentor import Carried, Joined, Patch, Remembered, Told, TTSInstrumentor

_FORMATS = {1: "pcm_f32le", 8: "pcm_s16le"}  # PyAudio's paFloat32 and paInt16; what is encoded says it itself
_STREAM = "RealtimeTTS.text_to_stream:TextToAudioStream"


def _format(call: Call) -> str | None:
    format, channels, _ = call.instance.engine.get_stream_info()
    return _FORMATS.get(format) if channels == 1 else None


def _rate(call: Call) -> object:
    """What the device takes, where there is one: what it does not take as it is comes resampled."""
    return call.instance.player.audio_stream.actual_sample_rate or call.instance.engine.get_stream_info()[2]


def _plays(call: Call) -> bool:
    """A text that is still to come is waited for as well."""
    muted = call.arguments["muted"] or call.instance.global_muted
    fed = [each["text_or_iterator"] for each in call.remembered]
    return not muted or not fed or not all(isinstance(each, str) for each in fed)


class RealtimeTTSInstrumentor(TTSInstrumentor):
    name = "realtimetts"
    package = "RealtimeTTS"
    versions = ">=0.8,<1"
    defaults = {
        "provider": lambda call: call.instance.engine.engine_name,
        "producer": "push",
        "text": lambda call: None,  # it is told of as it is read
        "format": _format,
        "sample_rate": _rate,
        "plays": _plays,
        "weights": lambda call: call.instance.engine,
        "told": lambda call: False,
    }
    patches = (
        Remembered(f"{_STREAM}.feed"),
        Patch(f"{_STREAM}.play"),
        Carried(f"{_STREAM}.play_async"),
        Joined(f"{_STREAM}._start_alignment_capture"),  # before each sentence
        Told(f"{_STREAM}._on_character", text=lambda call: call.arguments["char"]),
        Told(f"{_STREAM}._on_audio_chunk", audio=lambda call: call.arguments["chunk"]),
        Told(f"{_STREAM}.stop", interrupts=True),
    )
