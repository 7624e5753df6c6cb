"""Voices without weights: graphs of the shape that the real libraries load, which make a known number of samples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FRAME = 600
"""Samples that the kokoro graph makes of each token."""


_QUARTER = numpy_helper.from_array(np.array([0.25], "f4"))


def _save(
    path: Path, inputs: dict[str, tuple[int, list[object]]], nodes: list[object], output: str, **told: str
) -> None:
    graph = helper.make_graph(
        nodes,
        "voice",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))


def _constant(name: str, value: np.ndarray) -> object:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def _of_tokens(folder: Path, name: str, tokens: str, voice: np.ndarray) -> tuple[str, str]:
    """A model and its voices: 600 samples of 0.25 for each token."""
    nodes = [
        helper.make_node("Shape", [tokens], ["shape"], start=1),
        _constant("frame", np.array([FRAME], np.int64)),
        helper.make_node("Mul", ["shape", "frame"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["audio"], value=_QUARTER),
    ]
    inputs = {
        tokens: (TensorProto.INT64, [1, "n"]),
        "style": (TensorProto.FLOAT, [1, 256]),
        "speed": (TensorProto.FLOAT, [1]),
    }
    _save(folder / f"{name}.onnx", inputs, nodes, "audio")
    np.savez(folder / "voices.npz", **{"af_heart": voice, "expr-voice-2-m": voice})
    return str(folder / f"{name}.onnx"), str(folder / "voices.npz")


def kokoro(folder: Path) -> tuple[str, str]:
    """A model and its voices: 600 samples of 0.25 for each token."""
    return _of_tokens(folder, "kokoro-tiny", "tokens", np.zeros((510, 1, 256), np.float32))


def kitten(folder: Path) -> tuple[str, str]:
    """A model and its voices: 600 samples of 0.25 for each token."""
    return _of_tokens(folder, "kitten-tiny", "input_ids", np.zeros((1, 256), np.float32))


def supertonic(folder: Path, seconds: float) -> Path:
    """A model's folder: `seconds` of 0.25 at 44.1 kHz for every text, in whole chunks of 3,072 samples."""
    text = {"text_ids": (TensorProto.INT64, [1, "n"]), "text_mask": (TensorProto.FLOAT, [1, 1, "n"])}
    ttl = {"style_ttl": (TensorProto.FLOAT, [1, 50, 256])}
    _save(
        folder / "onnx" / "duration_predictor.onnx",
        {**text, "style_dp": (TensorProto.FLOAT, [1, 8, 16])},
        [_constant("duration", np.array([seconds], "f4"))],
        "duration",
    )
    _save(
        folder / "onnx" / "text_encoder.onnx",
        {**text, **ttl},
        [_constant("text_emb", np.zeros((1, 1, 1), "f4"))],
        "text_emb",
    )
    _save(
        folder / "onnx" / "vector_estimator.onnx",
        {
            "noisy_latent": (TensorProto.FLOAT, [1, "d", "l"]),
            "text_emb": (TensorProto.FLOAT, [1, 1, 1]),
            **ttl,
            "text_mask": text["text_mask"],
            "latent_mask": (TensorProto.FLOAT, [1, 1, "l"]),
            "current_step": (TensorProto.FLOAT, [1]),
            "total_step": (TensorProto.FLOAT, [1]),
        },
        [helper.make_node("Identity", ["noisy_latent"], ["denoised"])],
        "denoised",
    )
    _save(
        folder / "onnx" / "vocoder.onnx",
        {"latent": (TensorProto.FLOAT, [1, "d", "l"])},
        [
            helper.make_node("Shape", ["latent"], ["chunks"], start=2),
            _constant("frame", np.array([3072], np.int64)),
            _constant("one", np.array([1], np.int64)),
            helper.make_node("Mul", ["chunks", "frame"], ["samples"]),
            helper.make_node("Concat", ["one", "samples"], ["size"], axis=0),
            helper.make_node("ConstantOfShape", ["size"], ["wav"], value=_QUARTER),
        ],
        "wav",
    )
    configuration = {
        "ae": {"sample_rate": 44_100, "base_chunk_size": 512},
        "ttl": {"chunk_compress_factor": 6, "latent_dim": 24},
    }
    (folder / "onnx" / "tts.json").write_text(json.dumps(configuration))
    (folder / "onnx" / "unicode_indexer.json").write_text(json.dumps(list(range(0x3200))))
    style = {
        "style_ttl": {"dims": [1, 50, 256], "data": np.zeros((1, 50, 256)).tolist(), "type": "float32"},
        "style_dp": {"dims": [1, 8, 16], "data": np.zeros((1, 8, 16)).tolist(), "type": "float32"},
    }
    (folder / "voice_styles").mkdir(parents=True, exist_ok=True)
    (folder / "voice_styles" / "F1.json").write_text(json.dumps(style))
    return folder


def sherpa_of_piper(folder: Path, voice: Path, words: list[str]) -> dict[str, str]:
    """Of a voice for piper, what sherpa-onnx wants to be told of it: the model with metadata, its tokens, and how the
    words are spoken."""
    from piper.phonemize_espeak import EspeakPhonemizer

    configuration = json.loads(Path(f"{voice}.json").read_text())
    language = configuration["espeak"]["voice"]
    model = onnx.load(str(voice))
    told = {
        "model_type": "vits",
        "language": "English",
        "comment": "piper",
        "voice": language,
        "n_speakers": configuration["num_speakers"],
        "sample_rate": configuration["audio"]["sample_rate"],
    }
    for key, value in told.items():
        model.metadata_props.add(key=key, value=str(value))
    onnx.save(model, str(folder / "sherpa.onnx"))
    ids = configuration["phoneme_id_map"]
    (folder / "tokens.txt").write_text("".join(f"{phoneme} {of[0]}\n" for phoneme, of in ids.items()))
    speaking = EspeakPhonemizer()
    with (folder / "lexicon.txt").open("w") as file:
        for word in words:
            (phonemes,) = speaking.phonemize(language, word)
            file.write(f"{word} {' '.join(each for each in phonemes if each in ids)}\n")
    names = {"model": "sherpa.onnx", "tokens": "tokens.txt", "lexicon": "lexicon.txt"}
    return {option: str(folder / name) for option, name in names.items()}
