"""torchaudio: the pipelines of Tacotron2 with a vocoder, in steps: the vocoder makes the audio."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Patch, Prepared, TTSInstrumentor


def _griffin_lim(call: Call) -> Any:
    """It returns the lengths as it was given them: in frames of the spectrogram."""
    waveforms, frames = call.result
    return waveforms if frames is None else (waveforms, (frames - 1) * call.instance._griffin_lim.hop_length)


class TorchaudioInstrumentor(TTSInstrumentor):
    name = "torchaudio"
    package = "torchaudio"
    versions = ">=2,<3"
    defaults = {"provider": "torchaudio", "prepared": lambda call: call.arguments["mel_spec"]}
    patches = (
        Prepared("torchaudio.pipelines._tts.impl:_EnglishCharProcessor.__call__", of="texts"),
        Prepared("torchaudio.pipelines._tts.impl:_EnglishPhoneProcessor.__call__", of="texts"),
        Prepared("torchaudio.models:Tacotron2.infer", of="tokens"),
        Patch("torchaudio.pipelines._tts.impl:_WaveRNNVocoder.forward"),
        Patch("torchaudio.pipelines._tts.impl:_GriffinLimVocoder.forward", audio=_griffin_lim),
    )
