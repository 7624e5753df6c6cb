"""The guide of PerformanceMonitor (docs/performance-monitor.ko.md), in its order, as one script.

    python examples/guide.py                 # Korean sentences, and the words around the figures in Korean
    python examples/guide.py --language en

It speaks with gTTS where Google can be reached, else with a voice of this machine: espeak-ng (apt install espeak-ng)
or hibari (pip install 'ttstrace[hibari]'), which speaks English only. It needs neither a network nor a GPU.
"""

import argparse
import hashlib
from typing import Any

from ttstrace import GTTSWrapper, PerformanceMonitor, summarize
from ttstrace.models import EspeakWrapper, HibariWrapper, TTSModel

SENTENCES = {
    "ko": ["안녕하세요. 만나서 반갑습니다.", "오늘은 날씨가 맑습니다.", "음성 합성의 성능을 측정합니다."],
    "en": ["Hello. It is nice to meet you.", "The weather is fine today.", "This measures how fast speech is made."],
}
WORDS: dict[str, dict[str, Any]] = {
    "ko": {
        "steps": [
            "간단한 성능 측정",
            "TTS 모델과 함께",
            "RTF: 3.0초의 오디오에 걸린 1.5초",
            "시스템 정보",
            "다중 측정 및 통계",
            "GPU에서",
            "2번의 음성 합성",
        ],
        "unavailable": "{name}: 사용할 수 없음 ({error})",
        "model": "TTS 모델: {name} (로드 시간: {seconds:.2f}초)",
        "time": "추론 시간: {:.2f}초",
        "audio": "오디오 길이: {:.2f}초",
        "cpu": "CPU 사용률: {:.2f}%",
        "memory": "Peak Memory: {:.2f} MB",
        "grade": "평가: {}",
        "cores": "CPU 코어: {}",
        "ram": "전체 메모리: {:.1f} GB",
        "mean": "평균 추론 시간: {mean:.3f}초 (중앙값 {median:.3f}초, p95 {p95:.3f}초, {count}회)",
    },
    "en": {
        "steps": [
            "A block of code",
            "With a TTS model",
            "RTF: 1.5 s of work for 3.0 s of audio",
            "The system",
            "Several measurements",
            "On the GPU",
            "The synthesis of step 2",
        ],
        "unavailable": "{name}: not available ({error})",
        "model": "TTS model: {name} (loaded in {seconds:.2f} s)",
        "time": "Inference time: {:.2f} s",
        "audio": "Audio length: {:.2f} s",
        "cpu": "CPU usage: {:.2f}%",
        "memory": "Peak memory: {:.2f} MB",
        "grade": "Grade: {}",
        "cores": "CPU cores: {}",
        "ram": "Total memory: {:.1f} GB",
        "mean": "Mean inference time: {mean:.3f} s (median {median:.3f} s, p95 {p95:.3f} s, {count} times)",
    },
}


def find_model(language: str, words: dict[str, Any]) -> tuple[TTSModel, list[str]]:
    """The first model that speaks here, and sentences in a language that it speaks."""
    candidates: list[tuple[TTSModel, str]] = [(GTTSWrapper(), language)]
    if language == "ko":
        candidates += [(EspeakWrapper(), "ko"), (HibariWrapper(), "en")]
    else:
        candidates += [(HibariWrapper(), "en"), (EspeakWrapper(), "en")]
    for model, spoken in candidates:
        try:
            model.load_model()
            model.synthesize(SENTENCES[spoken][0])  # whether it works; and the first call of a model is its slowest
        except Exception as error:  # no network, not installed, ...: the next one may do
            print(words["unavailable"].format(name=model.name, error=error))
            continue
        return model, SENTENCES[spoken]
    raise SystemExit("There is no voice here: pip install 'ttstrace[hibari]', or apt install espeak-ng")


def begin(step: int, words: dict[str, Any]) -> None:
    print(f"\n# {step}. {words['steps'][step - 1]}")


def show(words: dict[str, Any], key: str, value: object) -> None:
    """One line; what could not be known is no key of the metrics, and has no line."""
    if value is not None:
        print(words[key].format(value))


def main() -> None:
    parser = argparse.ArgumentParser(description="The guide of PerformanceMonitor as one script.")
    parser.add_argument(
        "--language", choices=sorted(WORDS), default="ko", help="of the sentences and of what is printed"
    )
    language = parser.parse_args().language
    words = WORDS[language]

    begin(1, words)
    monitor = PerformanceMonitor(device="auto")
    with monitor.measure() as metrics:
        hashlib.pbkdf2_hmac("sha256", b"anything", b"that takes a while", 100_000)
    show(words, "time", metrics["inference_time"])
    show(words, "memory", metrics.get("peak_memory_mb"))
    show(words, "cpu", metrics.get("cpu_percent"))

    begin(2, words)
    tts, sentences = find_model(language, words)
    print(words["model"].format(name=tts.name, seconds=tts.load_duration))
    with PerformanceMonitor(device="cpu").measure() as metrics:
        audio = tts.synthesize(sentences[0])
    audio_duration = len(audio) / tts.sample_rate
    rtf = PerformanceMonitor.calculate_rtf(metrics["inference_time"], audio_duration)
    print(f"RTF: {rtf:.4f}")

    begin(3, words)
    print(PerformanceMonitor.calculate_rtf(inference_time=1.5, audio_duration=3.0))
    for each in (0.3, 0.7, 1.0, 1.5):
        print(f"RTF {each}: {PerformanceMonitor.interpret_rtf(each, language)}")

    begin(4, words)
    info = monitor.get_system_info()
    show(words, "cores", info.get("cpu_count"))
    show(words, "ram", info.get("total_memory_gb"))
    print(f"GPU: {info.get('gpu_name', 'N/A')}")

    begin(5, words)
    results = []
    for text in sentences:
        with monitor.measure() as each_metrics:
            tts.synthesize(text)
        results.append(each_metrics)
    print(words["mean"].format_map(summarize(results)["inference_time"]))

    begin(6, words)
    try:
        # synchronize=True waits until the GPU has done what it was given, inside the time that is measured.
        with PerformanceMonitor(device="cuda", synchronize=True).measure() as on_gpu:
            import torch

            matrix = torch.ones(2048, 2048, device="cuda")
            _ = matrix @ matrix
        torch.cuda.empty_cache()
        print({key: value for key, value in on_gpu.items() if key == "device" or key.startswith("gpu_")})
    except RuntimeError as error:  # no torch, or no CUDA
        print(error)

    begin(7, words)
    show(words, "time", metrics["inference_time"])
    show(words, "audio", audio_duration)
    print(f"RTF: {rtf:.4f}")
    show(words, "memory", metrics.get("peak_memory_mb"))
    show(words, "cpu", metrics.get("cpu_percent"))
    show(words, "grade", PerformanceMonitor.interpret_rtf(rtf, language))


if __name__ == "__main__":
    main()
