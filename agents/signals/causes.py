"""Causality: which signals have led to which, as their extension ``causationid`` says."""

from __future__ import annotations

from collections.abc import Iterator

from agents.core.signal import Signal


class Causes:
    """Signals by their causes, as their extension ``causationid`` names them.

    >>> from agents import Signal
    >>> causes = Causes()
    >>> for id, cause in (("1", None), ("2", "1"), ("3", "2"), ("4", "1")):
    ...     extensions = {} if cause is None else {"causationid": cause}
    ...     causes.add(Signal(type="t", source="/", id=id, extensions=extensions))
    >>> [signal.id for signal in causes.causes("3")], [signal.id for signal in causes.effects("1")]
    (['1', '2'], ['2', '4', '3'])
    """

    def __init__(self) -> None:
        self._signals: dict[str, Signal] = {}
        self._effects: dict[str, list[str]] = {}

    def add(self, signal: Signal) -> None:
        """Add a signal."""
        self._signals[signal.id] = signal
        cause = signal.extensions.get("causationid")
        if cause is not None:
            self._effects.setdefault(cause, []).append(signal.id)

    def discard(self, signal: Signal) -> None:
        """Remove a signal, and what it has caused."""
        self._signals.pop(signal.id, None)
        self._effects.pop(signal.id, None)

    def causes(self, id: str) -> tuple[Signal, ...]:
        """Return what has led to a signal, the first cause first."""
        found: dict[str, Signal] = {}
        signal = self._signals.get(id)
        while signal is not None:
            signal = self._signals.get(signal.extensions.get("causationid", ""))
            if signal is None or signal.id in found or signal.id == id:
                break
            found[signal.id] = signal
        return tuple(reversed(found.values()))

    def effects(self, id: str) -> tuple[Signal, ...]:
        """Return what a signal has led to, the nearest first."""
        return tuple(self._signals[one] for one in self._following(id) if one in self._signals)

    def _following(self, id: str) -> Iterator[str]:
        seen, wave = {id}, [id]
        while wave:
            wave = [effect for one in wave for effect in self._effects.get(one, ()) if effect not in seen]
            seen.update(wave)
            yield from wave
