"""configure(): what decides where spans and metrics go, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from collector import lines_of, run_program

from ttstrace.telemetry.destinations import resolve


def where(
    endpoint: str | None = None, protocol: str | None = None, file: str | None = None, **environ: str
) -> tuple[list[tuple[str, str, Any]], list[tuple[str, str, Any]]]:
    found = resolve(endpoint, protocol, file, environ)

    def plain(signal: Any) -> list[tuple[str, str, Any]]:
        return [(each.exporter, each.address, each.arguments.get("endpoint")) for each in signal]

    return plain(found.traces), plain(found.metrics)


@pytest.mark.parametrize(
    ("endpoint", "protocol", "exporter", "base"),
    [
        ("http://h:4318", None, "otlp_proto_http", "http://h:4318"),
        ("http://h:4318/", None, "otlp_proto_http", "http://h:4318"),
        ("https://h/otlp", None, "otlp_proto_http", "https://h/otlp"),
        ("http://h:4318/v1/traces", None, "otlp_proto_http", "http://h:4318"),
        ("http://h:4317", "http/protobuf", "otlp_proto_http", "http://h:4317"),
        ("h:4318", None, "otlp_proto_http", "http://h:4318"),
        ("http://h:4317", None, "otlp_proto_grpc", None),
        ("https://h:4317", None, "otlp_proto_grpc", None),
        ("h:4317", None, "otlp_proto_grpc", None),
        ("h:9999", None, "otlp_proto_grpc", None),
        ("[::1]:4317", None, "otlp_proto_grpc", None),
        ("http://h:9999", "grpc", "otlp_proto_grpc", None),
    ],
)
def test_endpoint_tells_the_protocol(endpoint: str, protocol: str | None, exporter: str, base: str | None) -> None:
    url = endpoint if "://" in endpoint else f"http://{endpoint}"
    traces, metrics = where(endpoint, protocol)
    assert traces == [(exporter, endpoint, f"{base}/v1/traces" if base else url)]
    assert metrics == [(exporter, endpoint, f"{base}/v1/metrics" if base else url)]


@pytest.mark.parametrize(
    "endpoint",
    ["", "h", "localhost", "ftp://h", "http://", "http://h:x", "http://h:99999", "h:99999", "http:/h",
     "a b:1", "http://a b", "unix:///x", "h:4317/v1", "grpc://h:4317"],
)  # fmt: skip
def test_endpoint_that_is_no_address(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint .*give a URL such as 'http://localhost:4318'") as error:
        where(endpoint)
    assert repr(endpoint) in str(error.value)


@pytest.mark.parametrize("protocol", ["http", "http/json", "GRPC", ""])
def test_unknown_protocol(protocol: str) -> None:
    with pytest.raises(ValueError, match='use "http/protobuf" or "grpc"'):
        where("http://h:1", protocol)


def test_protocol_without_endpoint() -> None:
    for arguments in ({}, {"file": "x"}):
        with pytest.raises(ValueError, match="no endpoint to go with"):
            where(protocol="grpc", **arguments)
    assert where(protocol="grpc", OTEL_EXPORTER_OTLP_ENDPOINT="http://h:4318")[0][0][0] == "otlp_proto_grpc"


FILE = ("ttstrace_file", f"{Path.cwd()}/ttstrace.jsonl", None)
METRICS_FILE = ("ttstrace_file", f"{Path.cwd()}/ttstrace.metrics.jsonl", None)
CONSOLE = ("console", "", None)
HTTP = ("otlp_proto_http", "http://h:4318", None)
GRPC = ("otlp_proto_grpc", "http://h:4317", None)


@pytest.mark.parametrize(
    ("environ", "traces", "metrics"),
    [
        ({}, [FILE], [METRICS_FILE]),
        ({"EXPORTER_OTLP_PROTOCOL": "grpc"}, [FILE], [METRICS_FILE]),
        ({"METRICS_EXPORTER": "none"}, [FILE], []),
        ({"METRICS_EXPORTER": "console"}, [FILE], [CONSOLE]),
        ({"TRACES_EXPORTER": "none"}, [], []),
        ({"TRACES_EXPORTER": "console"}, [CONSOLE], []),
        ({"TRACES_EXPORTER": " console , none "}, [CONSOLE], []),
        ({"TRACES_EXPORTER": "ttstrace_file,console"}, [FILE, CONSOLE], [METRICS_FILE]),
        ({"TRACES_EXPORTER": "none", "METRICS_EXPORTER": "ttstrace_file"}, [], [METRICS_FILE]),
        ({"EXPORTER_OTLP_ENDPOINT": "http://h:4318"}, [HTTP], [HTTP]),
        ({"EXPORTER_OTLP_ENDPOINT": "http://h:4317"}, [GRPC], [GRPC]),
        ({"EXPORTER_OTLP_TRACES_ENDPOINT": "http://h:4318"}, [HTTP], []),
        ({"EXPORTER_OTLP_METRICS_ENDPOINT": "http://h:4318"}, [FILE], [HTTP]),
        ({"EXPORTER_OTLP_ENDPOINT": "http://h:4318", "TRACES_EXPORTER": "console"}, [CONSOLE], [HTTP]),
        ({"EXPORTER_OTLP_ENDPOINT": "http://h:4318", "TRACES_EXPORTER": "none"}, [], [HTTP]),
        (
            {"EXPORTER_OTLP_ENDPOINT": "http://h:4318", "TRACES_EXPORTER": "otlp,console"},
            [HTTP, CONSOLE],
            [HTTP],
        ),
        (
            {"EXPORTER_OTLP_ENDPOINT": "http://h:4317", "EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            [("otlp_proto_http", "http://h:4317", None)],
            [("otlp_proto_http", "http://h:4317", None)],
        ),
        (
            {"EXPORTER_OTLP_ENDPOINT": "http://h:4318", "EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            [("otlp_proto_grpc", "http://h:4318", None)],
            [HTTP],
        ),
        ({"TRACES_EXPORTER": "otlp"}, [("otlp_proto_http", "http://localhost:4318", None)], []),
        ({"TRACES_EXPORTER": "otlp_proto_grpc"}, [("otlp_proto_grpc", "http://localhost:4317", None)], []),
    ],
)
def test_variables_come_before_the_file(environ: dict[str, str], traces: list[Any], metrics: list[Any]) -> None:
    assert where(**{f"OTEL_{name}": value for name, value in environ.items()}) == (traces, metrics)


def test_arguments_come_before_variables() -> None:
    environ = {"OTEL_TRACES_EXPORTER": "console", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317"}
    traces, metrics = where(endpoint="http://mine:4318", file="/x.jsonl", **environ)
    assert [each[1] for each in traces] == ["/x.jsonl", "http://mine:4318"]
    assert [each[1] for each in metrics] == ["/x.metrics.jsonl", "http://mine:4318"]


def test_file_of_the_environment() -> None:
    assert where(TTSTRACE_FILE="/a/b.jsonl")[0] == [("ttstrace_file", "/a/b.jsonl", None)]
    assert where(file="/mine.jsonl", TTSTRACE_FILE="/a/b.jsonl")[0][0][1] == "/mine.jsonl"
    with pytest.raises(ValueError, match="file is empty"):
        where(file="")


def test_timeout_is_the_users_where_there_is_one() -> None:
    def timeout(**environ: str) -> Any:
        return resolve("http://h:1", None, None, environ).traces[0].arguments.get("timeout")

    assert timeout() == 5
    assert timeout(OTEL_EXPORTER_OTLP_METRICS_TIMEOUT="9") == 5
    assert timeout(OTEL_EXPORTER_OTLP_TIMEOUT="9") is None
    assert timeout(OTEL_EXPORTER_OTLP_TRACES_TIMEOUT="9") is None


def test_console_and_service_name_by_variable(tmp_path: Path) -> None:
    ran = run_program(
        "say(handle=repr(configure())); synthesize(); say(kept=os.environ['OTEL_TRACES_EXPORTER'])",
        tmp_path,
        OTEL_TRACES_EXPORTER="console",
        OTEL_SERVICE_NAME="by-variable",
    )
    assert ran.said["handle"] == "Telemetry()"
    assert ran.said["kept"] == "console"
    assert '"service.name": "by-variable"' in ran.out
    assert '"tts.rtf": 0.113' in ran.out
    assert not list(tmp_path.glob("*.jsonl"))


def test_argument_names_the_service(tmp_path: Path) -> None:
    run_program(
        "configure('by-argument', file='x.jsonl'); synthesize()",
        tmp_path,
        OTEL_TRACES_EXPORTER="console",
        OTEL_SERVICE_NAME="by-variable",
    )
    assert lines_of(tmp_path / "x.jsonl")[0]["resource"]["service.name"] == "by-argument"


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}],
)
def test_switched_off(tmp_path: Path, variables: dict[str, str]) -> None:
    ran = run_program(
        "h = configure(); synthesize(); record(); say(sent=[h.force_flush(), h.shutdown()])",
        tmp_path,
        **variables,
    )
    assert ran.said["sent"] == [True, True]
    assert ran.err == ""
    assert not list(tmp_path.glob("*.jsonl"))


def test_sampler_of_the_environment_holds(tmp_path: Path) -> None:
    run_program("configure(); synthesize()", tmp_path, OTEL_TRACES_SAMPLER="always_off")
    assert (tmp_path / "ttstrace.jsonl").read_text() == ""


APPLICATION = """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    mine = []
    if "traces" in os.environ["APPLICATION"]:
        mine.append(TracerProvider(resource=Resource({"service.name": "application"})))
        trace.set_tracer_provider(mine[-1])
    if "metrics" in os.environ["APPLICATION"]:
        reader = InMemoryMetricReader()
        mine.append(MeterProvider([reader]))
        metrics.set_meter_provider(mine[-1])
    handle = configure(**json.loads(os.environ["ARGUMENTS"]))
    held = [provider in (trace.get_tracer_provider(), metrics.get_meter_provider()) for provider in mine]
    synthesize()
    record()
    say(held=held, sent=[handle.force_flush(), handle.shutdown()], file=handle.file,
    metrics=handle.metrics_file,
        endpoint=handle.endpoint)
    # The application's own go on.
    seen = in_memory()
    synthesize()
    say(seen=len(seen.get_finished_spans()))
"""


@pytest.mark.parametrize("application", ["traces", "metrics", "traces metrics"])
@pytest.mark.parametrize("arguments", ["{}", '{"file": "x.jsonl", "service_name": "mine"}'])
def test_application_keeps_its_providers(tmp_path: Path, application: str, arguments: str) -> None:
    ran = run_program(APPLICATION, tmp_path, APPLICATION=application, ARGUMENTS=arguments)
    assert all(ran.said["held"])
    assert ran.said["sent"] == [True, True]
    assert ran.said["seen"] == 1
    (warning,) = ran.err.splitlines()
    assert "The application has set up OpenTelemetry before configure()" in warning
    assert ("TracerProvider" in warning) is ("traces" in application)
    assert ("MeterProvider" in warning) is ("metrics" in application)
    name = "x" if "file" in arguments else "ttstrace"
    spans, numbers = tmp_path / f"{name}.jsonl", tmp_path / f"{name}.metrics.jsonl"
    # Added to the application's own where it was asked for, and set up where the application has none.
    assert spans.exists() is ("file" in arguments or "traces" not in application)
    assert numbers.exists() is ("file" in arguments or "metrics" not in application)
    assert ran.said["file"] == (str(spans) if spans.exists() else None)
    assert ran.said["metrics"] == (str(numbers) if numbers.exists() else None)
    if spans.exists():
        (span,) = lines_of(spans)
        expected = "application" if "traces" in application else "mine" if "mine" in arguments else "unknown_service"
        assert span["resource"]["service.name"].startswith(expected)
    if numbers.exists():
        assert "tts.client.rtf" in numbers.read_text()
        # Both signals of one service name it alike.
        assert ('"application"' in numbers.read_text()) is (application == "traces")
    if "file" in arguments:
        assert "x.jsonl" in warning
        assert "'mine' has no effect" in warning
    else:
        assert "explicit endpoint" in warning or "added" in warning


def test_provider_that_takes_nothing_is_kept(tmp_path: Path) -> None:
    ran = run_program(
        """
        trace.set_tracer_provider(trace.NoOpTracerProvider())
        metrics.set_meter_provider(metrics.NoOpMeterProvider())
        handle = configure(file="x.jsonl")
        synthesize()
        say(file=handle.file, sent=handle.shutdown())
        """,
        tmp_path,
    )
    assert ran.said == {"file": None, "sent": True}
    assert "takes no more exporters" in ran.err
    assert ran.err.count("\n") == 1


def test_second_call_adds_what_is_new_only(tmp_path: Path) -> None:
    ran = run_program(
        """
        first = configure(file="a.jsonl")
        same = configure(file="a.jsonl")
        nothing = configure()
        second = configure(file="b.jsonl")
        synthesize(number=1)
        say(files=[h.file for h in (first, same, nothing, second)], flushed=same.force_flush(),
            shut=[same.shutdown(), second.shutdown()])
        synthesize(number=2)
        say(first=first.shutdown())
        synthesize(number=3)
        again = configure(file="a.jsonl")
        synthesize(number=4)
        again.shutdown()
        configure()
        synthesize(number=5)
        """,
        tmp_path,
    )
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    assert ran.said == {"files": [a, a, None, b], "flushed": True, "shut": [True, True], "first": True}
    numbers = {
        path.name: [span["attributes"]["number"] for span in lines_of(path)]
        for path in tmp_path.glob("*.jsonl")
        if "metrics" not in path.name
    }
    assert numbers == {"a.jsonl": [1, 2, 4], "b.jsonl": [1], "ttstrace.jsonl": [5]}
    warnings = ran.err.splitlines()
    assert len(warnings) == 5
    assert all("configure() was called before" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("endpoint='nonsense'", "ValueError"),
        ("endpoint='http://h:1', protocol='smtp'", "ValueError"),
        ("file='missing/x.jsonl'", "FileNotFoundError"),
        ("file='.'", "IsADirectoryError"),
        ("file='program.py'", "ValueError"),
        ("file='x.jsonl'", "ValueError"),
    ],
)
def test_bad_input_is_refused_before_anything_is_set_up(tmp_path: Path, arguments: str, error: str) -> None:
    (tmp_path / "x.metrics.jsonl").write_text("precious\n")
    ran = run_program(
        f"""
        try:
            configure({arguments})
        except Exception as error:
            say(error=type(error).__name__, message=str(error))
        say(untouched=isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider))
        say(file=configure(file="good.jsonl").file)
        """,
        tmp_path,
    )
    assert ran.said["error"] == error
    assert ran.said["message"].endswith(".")
    assert "\n" not in ran.said["message"]
    assert ran.said["untouched"] is True
    assert ran.said["file"] == str(tmp_path / "good.jsonl")
    assert ran.err == ""
    assert (tmp_path / "x.metrics.jsonl").read_text() == "precious\n"


def test_application_processors_and_providers_outlive_the_handle(tmp_path: Path) -> None:
    ran = run_program(
        """
        from opentelemetry.sdk.trace import SpanProcessor

        class Own(SpanProcessor):
            def shutdown(self):
                print("own processor shut down")

        with configure():
            trace.get_tracer_provider().add_span_processor(Own())
        print("after")
        """,
        tmp_path,
    )
    assert ran.out.splitlines() == ["after", "own processor shut down"]
    assert ran.err == ""


def test_import_of_the_package_does_not_load_the_sdk(tmp_path: Path) -> None:
    ran = run_program(
        """
        import subprocess
        code = "import sys, ttstrace; print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
        print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        """,
        tmp_path,
    )
    assert ran.out.strip() == "[]"


def test_lines_are_printed_where_the_variable_says_so(tmp_path: Path) -> None:
    source = "configure(); synthesize(); trace.get_tracer('app').start_span('other').end()"
    assert run_program(source, tmp_path).err == ""
    line = run_program(source, tmp_path, TTSTRACE_CONSOLE="1").err
    assert line.startswith("- -> -  RTF 0.11  hibari/- - 42 ch  cpu -  peak -  [cold]  trace ")
    assert line.count("\n") == 1
