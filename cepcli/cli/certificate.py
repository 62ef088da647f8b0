"""How the command line says what a cache promises about its semantic hits."""

from collections.abc import Mapping
from typing import Any


def in_words(certificate: Mapping[str, Any] | None, *, interval: bool = False) -> str:
    """A certificate in one line, as "δ 0.94, ≤10% over 0.5 nats (95%), seen 2.1% of 312".

    Args:
        certificate: as a run's summary or a saved cache holds it; None if nothing is promised.
        interval: add the exact interval of the share seen, at the certificate's confidence.
    """
    if certificate is None:
        return "none"
    if certificate["threshold"] is None:
        return "withdrawn, no proof yet" if certificate.get("alarms") else "no proof yet"
    alpha, confidence = (_percent(certificate[name]) for name in ("alpha", "confidence"))
    line = (
        f"δ {certificate['threshold']:g}, ≤{alpha} over {certificate['kappa']:g} nats "
        f"({confidence}), "
    )
    if not certificate["audits"]:
        return line + "no hit audited yet"
    line += f"seen {certificate['rate']:.1%} of {certificate['audits']}"
    if interval:
        line += f" [{certificate['low']:.1%}, {certificate['high']:.1%}]"
    return line


def _percent(share: float) -> str:
    """A configured share, with the digits it was given."""
    return f"{100 * share:g}%"
