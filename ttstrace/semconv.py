"""Every name that ttstrace writes into telemetry: the one place where they are spelled.

Each constant is the name itself; :data:`ATTRIBUTES`, :data:`EVENTS` and :data:`METRICS` hold the unit and the
meaning of each, for documentation and for the tests that hold the two together.

Units are SI base units in the notation that OpenTelemetry uses (UCUM), and no unit is part of a name.
The ``gen_ai.*`` names are those of the OpenTelemetry GenAI semantic conventions; ``text_to_speech`` as an
operation, ``gen_ai.speech.voice`` and ``gen_ai.output.type=speech`` are proposed there
(semantic-conventions-genai, pull request 390) and may still change.
"""

from __future__ import annotations

from typing import Final, NamedTuple

SCOPE: Final = "ttstrace"
"""Name of the instrumentation scope of every span and metric."""


class Name(NamedTuple):
    """What a name means, and the unit of its value ("" where there is none)."""

    unit: str
    meaning: str


ATTRIBUTES: Final[dict[str, Name]] = {}
"""Every attribute by name. ``tts.stage.duration.`` is a prefix: the stage's own name follows."""
EVENTS: Final[dict[str, Name]] = {}
"""Every span event by name."""
METRICS: Final[dict[str, Name]] = {}
"""Every metric by name."""


def _attribute(name: str, unit: str, meaning: str) -> str:
    ATTRIBUTES[name] = Name(unit, meaning)
    return name


def _event(name: str, meaning: str) -> str:
    EVENTS[name] = Name("", meaning)
    return name


def _metric(name: str, unit: str, meaning: str) -> str:
    METRICS[name] = Name(unit, meaning)
    return name


OPERATION: Final = "text_to_speech"
"""Value of :data:`GEN_AI_OPERATION_NAME`, and the first word of every span's name."""
OUTPUT_TYPE_SPEECH: Final = "speech"
"""Value of :data:`GEN_AI_OUTPUT_TYPE`."""

# What was asked for.
GEN_AI_OPERATION_NAME: Final = _attribute("gen_ai.operation.name", "", "always `text_to_speech`")
GEN_AI_PROVIDER_NAME: Final = _attribute("gen_ai.provider.name", "", "who synthesizes: a service or a library")
GEN_AI_REQUEST_MODEL: Final = _attribute(
    "gen_ai.request.model", "", "the model; of a file path, its last component without suffix"
)
GEN_AI_SPEECH_VOICE: Final = _attribute("gen_ai.speech.voice", "", "the voice, by name or id only")
GEN_AI_OUTPUT_TYPE: Final = _attribute("gen_ai.output.type", "", "always `speech`")
GEN_AI_REQUEST_STREAM: Final = _attribute("gen_ai.request.stream", "", "the audio comes in pieces")
GEN_AI_INPUT_MESSAGES: Final = _attribute(
    "gen_ai.input.messages", "", "the text, as JSON; only where content capture was switched on"
)
SERVER_ADDRESS: Final = _attribute("server.address", "", "host of the remote service")
SERVER_PORT: Final = _attribute("server.port", "", "port of the remote service")
ERROR_TYPE: Final = _attribute("error.type", "", "class of the exception that ended the synthesis")
CODE_FUNCTION_NAME: Final = _attribute("code.function.name", "", "qualified name of the measured callable")
TTS_LANGUAGE: Final = _attribute("tts.language", "", "language of the speech, BCP 47")
TTS_INPUT_TYPE: Final = _attribute("tts.input.type", "", "`text`, `ssml` or `phonemes`")
TTS_INPUT_CHARACTERS: Final = _attribute(
    "tts.input.characters", "{character}", "Unicode code points as sent, markup included"
)
TTS_USAGE_CHARACTERS: Final = _attribute(
    "tts.usage.characters", "{character}", "what the service says it billed, only where it says so"
)
TTS_INPUT_WAIT_DURATION: Final = _attribute(
    "tts.input.wait.duration", "s", "time spent waiting for text that arrives in pieces"
)
TTS_BATCH_SIZE: Final = _attribute("tts.batch.size", "{text}", "texts synthesized by the one call")
TTS_VOICE_CLONED: Final = _attribute("tts.voice.cloned", "", "the voice was cloned from reference audio")
TTS_DEVICE: Final = _attribute("tts.device", "", "`cpu`, `cuda`, `cuda:1`, `mps`; absent for a remote service")
TTS_COLD_START: Final = _attribute(
    "tts.cold_start",
    "",
    "first synthesis of this loaded model in this process; absent for a remote service",
)

# How long it took, and what came of it.
TTS_SYNTHESIS_DURATION: Final = _attribute("tts.synthesis.duration", "s", "time the backend took")
TTS_STREAM_HOLD_DURATION: Final = _attribute(
    "tts.stream.hold.duration", "s", "time the consumer kept the stream waiting"
)
TTS_AUDIO_DURATION: Final = _attribute("tts.audio.duration", "s", "seconds of audio")
TTS_AUDIO_SAMPLE_RATE: Final = _attribute("tts.audio.sample_rate", "Hz", "sample rate of the audio")
TTS_AUDIO_CHANNELS: Final = _attribute("tts.audio.channels", "1", "channels of the audio")
TTS_AUDIO_FORMAT: Final = _attribute("tts.audio.format", "", "container or sample format: `wav`, `mp3`, `pcm_s16le`")
TTS_AUDIO_SIZE: Final = _attribute("tts.audio.size", "By", "bytes of the audio as it was returned")
TTS_RTF: Final = _attribute(
    "tts.rtf", "1", "real-time factor: synthesis duration / audio duration; below 1 is faster than real time"
)
TTS_RTF_GRADE: Final = _attribute(
    "tts.rtf.grade",
    "",
    "`very_fast` (< 0.5), `faster_than_real_time` (< 1), `real_time` (= 1), `slower_than_real_time` (> 1)",
)
TTS_INTERRUPTED: Final = _attribute("tts.interrupted", "", "ended by the consumer before the audio did")

# Streams.
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = _attribute(
    "gen_ai.response.time_to_first_chunk", "s", "start to the first chunk that holds audio; streams only"
)
TTS_TIME_TO_FIRST_AUDIO: Final = _attribute(
    "tts.time_to_first_audio",
    "s",
    "start to the moment a listener hears something: leading silence counts (onset by 10 ms RMS windows above "
    "-40 dBFS for 50 ms)",
)
TTS_STREAM_CHUNKS: Final = _attribute("tts.stream.chunks", "{chunk}", "chunks that hold audio")
TTS_STREAM_CONTINUOUS: Final = _attribute(
    "tts.stream.continuous", "", "playback from the first chunk would have had no underrun"
)
TTS_STREAM_UNDERRUNS: Final = _attribute(
    "tts.stream.underruns", "{underrun}", "times playback would have run dry for more than 0.1 s"
)
TTS_STREAM_UNDERRUN_DURATION: Final = _attribute("tts.stream.underrun.duration", "s", "total silence of the underruns")
TTS_STREAM_UNDERRUN_MAX: Final = _attribute("tts.stream.underrun.max", "s", "the longest underrun")

# What it cost.
TTS_CPU_TIME: Final = _attribute(
    "tts.cpu.time", "s", "CPU time of the process and its finished children while the span was open"
)
TTS_CPU_UTILIZATION: Final = _attribute(
    "tts.cpu.utilization",
    "1",
    "CPU time / time open; 1.0 is one core busy, so it may exceed 1 (unlike `process.cpu.utilization`)",
)
TTS_MEMORY_PEAK: Final = _attribute(
    "tts.memory.peak", "By", "highest resident memory of the process while the span was open"
)
TTS_MEMORY_METHOD: Final = _attribute(
    "tts.memory.method",
    "",
    "how the peak was found where the kernel's mark cannot be reset: `rise` (the mark rose: exact) or `sampler` (the "
    "highest of readings 5 ms apart: a lower bound)",
)
TTS_MEMORY_BURST: Final = _attribute(
    "tts.memory.burst", "By", "newly resident memory: peak less what was resident at the start"
)
TTS_MEMORY_GROWTH: Final = _attribute("tts.memory.growth", "By", "resident memory at the end less at the start")
TTS_MEMORY_UTILIZATION: Final = _attribute(
    "tts.memory.utilization", "1", "peak / the memory the process may use (cgroup limit or RAM)"
)
TTS_GPU_MEMORY_USED: Final = _attribute("tts.gpu.memory.used", "By", "GPU memory of this process, by NVML")
TTS_GPU_MEMORY_PEAK: Final = _attribute("tts.gpu.memory.peak", "By", "peak of torch's allocator on the model's device")
TTS_GPU_MEMORY_ALLOCATED: Final = _attribute(
    "tts.gpu.memory.allocated", "By", "memory held by torch's allocator on the model's device"
)
TTS_GPU_UTILIZATION: Final = _attribute("tts.gpu.utilization", "1", "utilization of the card, by NVML")
TTS_GPU_TEMPERATURE: Final = _attribute("tts.gpu.temperature", "Cel", "temperature of the card")
TTS_GPU_ENERGY: Final = _attribute("tts.gpu.energy", "J", "energy the card used while the span was open")
HW_NAME: Final = _attribute("hw.name", "", "name of the card")
TTS_CONCURRENCY_MAX: Final = _attribute(
    "tts.concurrency.max",
    "{synthesis}",
    "most syntheses open in this process at once; above 1, process-wide figures are shared",
)
TTS_STAGE_DURATION: Final = _attribute("tts.stage.duration.", "s", "seconds spent in the stage of that name")
TTS_STAGE_DROPPED: Final = _attribute(
    "tts.stage.dropped", "{stage}", "stages not recorded because the span already had 16 names"
)

# Exceptions, as OpenTelemetry names them.
EXCEPTION_TYPE: Final = _attribute("exception.type", "", "class of the exception")
EXCEPTION_MESSAGE: Final = _attribute(
    "exception.message", "", "its message; only where content capture was switched on"
)
EXCEPTION_STACKTRACE: Final = _attribute(
    "exception.stacktrace", "", "its frames as file, line number and function; never a source line"
)

EVENT_FIRST_AUDIO: Final = _event("tts.first_audio", "a listener hears something")
EVENT_FIRST_CHUNK: Final = _event("tts.first_chunk", "first chunk with audio, where the format hides the onset")
EVENT_UNDERRUN: Final = _event("tts.underrun", "playback ran dry; tts.stream.underrun.duration says for how long")
EVENT_EXCEPTION: Final = _event("exception", "the exception that ended the synthesis")

METRIC_OPERATION_DURATION: Final = _metric("gen_ai.client.operation.duration", "s", "length of the span")
METRIC_TIME_TO_FIRST_CHUNK: Final = _metric(
    "gen_ai.client.operation.time_to_first_chunk", "s", "start to the first chunk that holds audio"
)
METRIC_RTF: Final = _metric("tts.client.rtf", "1", "real-time factor")
METRIC_TIME_TO_FIRST_AUDIO: Final = _metric(
    "tts.client.time_to_first_audio", "s", "start to the moment a listener hears something"
)
METRIC_AUDIO_DURATION: Final = _metric("tts.client.audio.duration", "s", "seconds of audio")
METRIC_MEMORY_PEAK: Final = _metric("tts.client.memory.peak", "By", "highest resident memory of the process")
METRIC_GPU_MEMORY_PEAK: Final = _metric("tts.client.gpu.memory.peak", "By", "peak of torch's allocator")
METRIC_INPUT_CHARACTERS: Final = _metric("tts.client.input.characters", "{character}", "characters synthesized")
METRIC_STREAM_UNDERRUNS: Final = _metric("tts.client.stream.underruns", "{underrun}", "underruns of streamed audio")
METRIC_ACTIVE: Final = _metric("tts.client.active", "{synthesis}", "syntheses open now")
