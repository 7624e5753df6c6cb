"""The demo's words around the figures, in English and in Korean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """One language's words; what is in braces is filled in."""

    welcome: str
    loading: str
    headings: Mapping[str, str]
    """What each step does, by its key."""
    rows: Mapping[str, str]
    """The same, short enough for a row of the table."""
    inner: str
    expected_error: str
    notes: str
    stages: str
    example: str
    files: str
    see: str
    upload: str
    send: str
    search: str
    searches: Mapping[str, str]
    """What an attribute of a span finds, by ``name=value``."""
    no_jaeger: str
    sending: str
    sent: str
    metrics_refused: str
    page: str
    stopped: str


_EN = Words(
    welcome="A small real voice (hibari) speaks seven times; each call becomes one span.",
    loading="Loading the voice",
    headings={
        "cold": "A first call: what the voice loads only now is in it",
        "short": "The same words again: the voice is warm",
        "sentence": "A sentence",
        "long": "A long sentence",
        "stream": "A paragraph as a stream, by the sentence, into a player without a sound",
        "application": "An application's own function with stages: its span, and hibari's inside it",
        "error": "No text at all (None): the error goes to the caller, and the span tells of it",
    },
    rows={
        "cold": "first call",
        "short": "warm, short",
        "sentence": "warm, sentence",
        "long": "warm, long",
        "stream": "stream",
        "application": "application",
        "error": "no text",
    },
    inner="└ hibari",
    expected_error="raised, as it should: {error}",
    notes=(
        "RTF: seconds of synthesis per second of audio. First audio: what a listener waits, leading silence "
        "included. CPU: 100 % is one core. The {hold:.2f} s that the player held the stream up are not counted."
    ),
    stages="Stages of the application's call: {stages}.",
    example="{what}, in the six lines of the performance guide:",
    files="Written, after what was there already:",
    see="See it in Jaeger",
    upload="Drop {file} on the Upload tab of its Search page, as it is.",
    send="Or send it to a Jaeger, or any other OTLP collector, that is running:",
    search="Then search for the service {service}, with tags such as",
    searches={
        "tts.rtf.grade=very_fast": "every synthesis of that grade",
        "tts.cold_start=true": "first calls of a voice",
        "error.type={error}": "what failed",
    },
    no_jaeger="No Jaeger yet? This starts one, and its page is http://localhost:16686",
    sending="Sending to {endpoint}",
    sent="All {count} spans arrived at {endpoint}.",
    metrics_refused="It takes no metrics, as Jaeger does not: they are in {metrics}.",
    page="If that is a Jaeger on its usual ports, this is its page:",
    stopped="\nStopped. Every call that had ended is in {file}.",
)

_KO = Words(
    welcome="작은 실제 음성(hibari)이 일곱 번 말하고, 호출마다 스팬이 하나씩 생깁니다. hibari는 영어만 합니다.",
    loading="음성을 불러오는 중",
    headings={
        "cold": "첫 호출: 이때 처음 불러오는 것들의 시간이 들어 있습니다",
        "short": "같은 말을 한 번 더: 이제 준비된 상태입니다",
        "sentence": "한 문장",
        "long": "긴 문장",
        "stream": "한 문단을 스트림으로, 문장마다, 소리 없는 재생기로 보냅니다",
        "application": "단계(stage)가 있는 애플리케이션 함수: 그 스팬 안에 hibari의 스팬이 있습니다",
        "error": "텍스트 없음(None): 오류는 호출한 쪽에 그대로 가고, 스팬에도 남습니다",
    },
    rows={
        "cold": "첫 호출",
        "short": "짧은 말",
        "sentence": "한 문장",
        "long": "긴 문장",
        "stream": "스트림",
        "application": "애플리케이션",
        "error": "텍스트 없음",
    },
    inner="└ hibari",
    expected_error="예상한 오류: {error}",
    notes=(
        "RTF: 오디오 1초를 합성하는 데 걸린 초. 첫 소리: 듣는 사람이 기다린 시간(앞의 무음 포함). "
        "CPU: 100 %가 코어 하나. 재생기가 스트림을 붙잡은 {hold:.2f}초는 합성 시간에 넣지 않았습니다."
    ),
    stages="애플리케이션 호출의 단계: {stages}.",
    example="가이드의 예제 출력 여섯 줄로 본 '{what}':",
    files="기록한 파일 (이미 있던 내용은 그대로 두고 덧붙임):",
    see="Jaeger에서 보기",
    upload="{file} 파일을 Search 화면의 Upload 탭에 그대로 끌어다 놓으세요.",
    send="또는 실행 중인 Jaeger나 다른 OTLP 수집기로 보내세요:",
    search="그리고 서비스 {service}에서 다음 태그로 찾으세요:",
    searches={
        "tts.rtf.grade=very_fast": "그 등급의 모든 합성",
        "tts.cold_start=true": "음성의 첫 호출",
        "error.type={error}": "실패한 호출",
    },
    no_jaeger="Jaeger가 아직 없다면 이 명령으로 띄우세요 (화면은 http://localhost:16686):",
    sending="{endpoint}(으)로 보내는 중",
    sent="스팬 {count}개가 모두 {endpoint}에 도착했습니다.",
    metrics_refused="Jaeger처럼 메트릭은 받지 않는 곳입니다. 메트릭은 {metrics}에 있습니다.",
    page="Jaeger가 기본 포트로 떠 있다면 화면은 여기입니다:",
    stopped="\n중단되었습니다. 끝난 호출은 모두 {file}에 있습니다.",
)

WORDS: Mapping[str, Words] = {"en": _EN, "ko": _KO}
