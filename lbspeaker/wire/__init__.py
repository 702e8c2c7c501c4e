"""Formats: bytes, text and JSON ↔ values. No I/O. Bad foreign bytes raise `errors.Malformed` only."""
