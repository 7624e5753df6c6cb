"""gTTS: Google Translate's speech, as a lazy generator of MP3 pieces, one request per 100 characters."""

from ttstrace.instrumentor import Patch, TTSInstrumentor


class GTTSInstrumentor(TTSInstrumentor):
    name = "gtts"
    package = "gTTS"
    versions = ">=2.3,<3"
    defaults = {
        "provider": "gtts",
        "remote": True,
        # Remote, but nothing goes on between the pulls: the next request is sent when the next piece is asked for,
        # and its answer is read to the end before the piece is handed on.
        "producer": "pull",
        "text": lambda call: call.instance.text,
        "language": lambda call: call.instance.lang,
        "server": lambda call: f"https://translate.google.{call.instance.tld}",
        "format": "mp3",
    }
    # Each calls the next; the outermost is the synthesis.
    patches = (
        Patch("gtts.tts:gTTS.save"),
        Patch("gtts.tts:gTTS.write_to_fp"),
        Patch("gtts.tts:gTTS.stream"),
    )
