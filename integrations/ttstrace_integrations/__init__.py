"""Integrations of ttstrace: one file per TTS library, declarations only."""
