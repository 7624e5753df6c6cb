"""sherpa-onnx: many kinds of neural voices, in C++; all samples at once, or as they come by a callback."""

from ttstrace.instrumentor import Patch, TTSInstrumentor


class SherpaOnnxInstrumentor(TTSInstrumentor):
    name = "sherpa_onnx"
    package = "sherpa-onnx"
    versions = ">=1.10.45,<3"
    defaults = {
        "provider": "sherpa-onnx",
        "text": lambda call: (
            next((each for each in call.arguments.get("args", ()) if isinstance(each, str)), None)
            or call.arguments.get("text")
        ),
        "callback": "callback",
        "producer": "pull",
    }
    patches = (Patch("sherpa_onnx:OfflineTts.generate"),)
