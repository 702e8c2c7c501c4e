"""Log lines: few, on change, with fields; for people by default, JSON for machines."""

import itertools
import logging
import sys
from typing import Any, Literal

import structlog

Format = Literal["text", "json"]
_levels = itertools.cycle(["debug", "info"])
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(format: Format = "text", level: str = "info") -> None:
    """Send log lines to standard error, from `level` (debug, info, warning, error) up."""
    processors: list[Any] = [structlog.processors.add_log_level]
    if format == "json":
        processors += [
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        processors += [
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.processors.format_exc_info,
            _line,
        ]
    structlog.configure(processors=processors, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    _set(level)
    global _levels
    _levels = itertools.cycle(["debug", level])


def _set(level: str) -> None:
    structlog.configure(
        **structlog.get_config() | {"wrapper_class": structlog.make_filtering_bound_logger(_LEVELS[level])}
    )


def change() -> None:
    """Say everything from now on; the next time, what was said before."""
    level = next(_levels)
    _set(level)
    log: Any = structlog.get_logger()
    log.log(_LEVELS[level], "log-level", now=level)


def _line(_logger: object, _name: str, event: Any) -> str:
    """12:04:31 info    claimed      service=default/web ip=192.0.2.10"""
    time, level, what = event.pop("timestamp"), event.pop("level"), event.pop("event")
    trace = event.pop("exception", None)
    fields = " ".join(f"{name}={_value(value)}" for name, value in event.items())
    line = f"{time} {level:<7} {what:<12} {fields}".rstrip()
    return f"{line}\n{trace}" if trace else line


def _value(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c in '="' for c in text) else text
