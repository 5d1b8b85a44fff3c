"""Leaks: personal data and secrets in texts, bodies, logs and files, in Chinese and English."""

from shopward.traffic.leaks.find import Found, find

__all__ = ["Found", "find"]
