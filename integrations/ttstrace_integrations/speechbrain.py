"""speechbrain: a model makes a spectrogram of the text, a vocoder the audio of that."""

from typing import Any

from ttstrace.call import Call
from ttstrace.instrumentor import Labelled, Patch, Prepared, TTSInstrumentor

_TTS = "speechbrain.inference.TTS"
_VOCODERS = "speechbrain.inference.vocoders"


def _waveforms(call: Call) -> Any:
    """Of a batch, padded, only the spectrograms' lengths say what is speech."""
    frames, hop = call.arguments["mel_lens"], call.arguments["hop_len"]
    return call.result if frames is None or hop is None else (call.result[:, 0], frames * hop)


_HIFIGAN = {"prepared": lambda call: call.arguments["spectrogram"]}
_DIFFWAVE = {"prepared": lambda call: call.arguments["mel"]}


class SpeechBrainInstrumentor(TTSInstrumentor):
    name = "speechbrain"
    package = "speechbrain"
    versions = ">=1,<2"
    defaults = {
        "provider": "speechbrain",
        "model": lambda call: call.label(call.instance),
        "device": lambda call: call.instance.device,
        # The vocoder's file may say it, and need not.
        "sample_rate": lambda call: getattr(call.instance.hparams, "sample_rate", None),
    }
    patches = (
        Labelled("speechbrain.inference.interfaces:Pretrained.from_hparams", by="source"),
        Prepared(f"{_TTS}:Tacotron2.encode_text", of="text"),
        Prepared(f"{_TTS}:Tacotron2.encode_batch", of="texts"),
        Prepared(f"{_TTS}:MSTacotron2.clone_voice", of="texts"),
        Prepared(f"{_TTS}:MSTacotron2.generate_random_voice", of="texts"),
        Prepared(f"{_TTS}:FastSpeech2.encode_text", of="texts"),
        Prepared(f"{_TTS}:FastSpeech2.encode_phoneme", of="phonemes"),
        Prepared(f"{_TTS}:FastSpeech2InternalAlignment.encode_text", of="texts"),
        Prepared(f"{_TTS}:FastSpeech2InternalAlignment.encode_phoneme", of="phonemes"),
        Patch(f"{_VOCODERS}:HIFIGAN.decode_batch", **_HIFIGAN, audio=_waveforms),
        Patch(f"{_VOCODERS}:HIFIGAN.decode_spectrogram", **_HIFIGAN),
        Patch(f"{_VOCODERS}:DiffWaveVocoder.decode_batch", **_DIFFWAVE, audio=_waveforms),
        Patch(f"{_VOCODERS}:DiffWaveVocoder.decode_spectrogram", **_HIFIGAN),
    )
