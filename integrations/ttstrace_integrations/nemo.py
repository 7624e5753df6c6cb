"""nemo-toolkit: MagpieTTS, from text to audio; FastPitch, which makes spectrograms, and HiFi-GAN, which makes audio."""

from ttstrace.instrumentor import Labelled, Patch, Prepared, TTSInstrumentor

_MODELS = "nemo.collections.tts.models"


class NeMoInstrumentor(TTSInstrumentor):
    name = "nemo"
    package = "nemo-toolkit"
    versions = ">=2.7,<4"
    defaults = {
        "provider": "nemo",
        "model": lambda call: call.label(call.instance),
    }
    patches = (
        Labelled("nemo.core.classes.common:Model.from_pretrained", by="model_name"),
        Labelled("nemo.core.classes.modelPT:ModelPT.restore_from", by="restore_path"),
        Prepared(f"{_MODELS}.fastpitch:FastPitchModel.parse", of="str_input"),
        Prepared(f"{_MODELS}.fastpitch:FastPitchModel.generate_spectrogram", of="tokens"),
        Patch(
            f"{_MODELS}.hifigan:HifiGanModel.convert_spectrogram_to_audio",
            prepared=lambda call: call.arguments["spec"],
        ),
        Patch(
            f"{_MODELS}.magpietts:MagpieTTSModel.do_tts",
            voice=lambda call: call.arguments["speaker_index"],
            language=lambda call: call.arguments["language"],
            audio=lambda call: call.result[0],
        ),
    )
