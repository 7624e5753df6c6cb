"""edge-tts: Microsoft Edge's voices by a websocket, as an async generator of MP3 pieces and of word boundaries."""

import sys

from ttstrace.call import Call
from ttstrace.instrumentor import Carried, Constructed, Patch, TTSInstrumentor


def _voice(call: Call) -> str:
    return str(call.constructed.get("voice", ""))


class EdgeTTSInstrumentor(TTSInstrumentor):
    name = "edge_tts"
    package = "edge-tts"
    versions = ">=7,<8"
    defaults = {
        "provider": "edge",
        "remote": True,
        "producer": "push",
        "text": lambda call: call.constructed.get("text"),
        "voice": _voice,
        "language": lambda call: "-".join(_voice(call).split("-")[:2]),  # ko-KR-SunHiNeural
        "format": "mp3",
        "server": lambda call: sys.modules["edge_tts.communicate"].WSS_URL,
    }
    patches = (
        Constructed("edge_tts.communicate:Communicate.__init__"),
        # `save` goes through `stream`; the outermost is the synthesis. The sync forms do either in a thread; `save` is
        # called before that begins.
        Patch("edge_tts.communicate:Communicate.stream"),
        Patch("edge_tts.communicate:Communicate.save"),
        Carried("edge_tts.communicate:Communicate.stream_sync"),
    )
