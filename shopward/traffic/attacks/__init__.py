"""Attacks in requests: rules and grammars over decoded views, a verdict with its place and bytes, and whether it worked."""

from shopward.traffic.attacks.scan import Hit, Scanner, Verdict, evidence_of

__all__ = ["Hit", "Scanner", "Verdict", "evidence_of"]
