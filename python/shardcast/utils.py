"""Where programs for the Python package find its logger."""

from __future__ import annotations

from ._programs import logger

__all__ = ["logger"]
