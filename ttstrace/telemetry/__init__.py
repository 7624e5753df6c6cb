"""Where spans and metrics go: :func:`configure`, its handle, and the trace file.

Importing this package loads the OpenTelemetry SDK; ``import ttstrace`` does not import it.
"""

from ttstrace.telemetry.configuration import configure
from ttstrace.telemetry.handle import Telemetry
from ttstrace.telemetry.trace_file import MetricFileExporter, SpanFileExporter
from ttstrace.telemetry.troubles import Trouble

__all__ = ["MetricFileExporter", "SpanFileExporter", "Telemetry", "Trouble", "configure"]
