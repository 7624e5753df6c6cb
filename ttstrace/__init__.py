"""OpenTelemetry for text-to-speech: one span per synthesis that tells the truth."""
