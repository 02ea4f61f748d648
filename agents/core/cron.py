"""Cron schedules: when a cron expression is due, in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from agents.errors import BadCronSchedule

if TYPE_CHECKING:
    from cronsim import CronSim

_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class CronSchedule:
    """When a cron expression is due.

    Args:
        expression: five fields, or six with seconds before them, or one of ``@hourly``, ``@daily``, ``@weekly``,
            ``@monthly``, ``@yearly``.
        timezone: the time zone of the expression.

    It needs the extra ``cron``.

    Raises:
        BadCronSchedule: the expression or the time zone is invalid, or what reads them is not installed.

    >>> from datetime import timedelta
    >>> schedule = CronSchedule("30 2 * * *", "America/Chicago")
    >>> begin = datetime(2026, 3, 8, 7, 0, tzinfo=UTC)
    >>> datetime.fromtimestamp(schedule.next_after(begin.timestamp()), UTC)
    datetime.datetime(2026, 3, 9, 7, 30, tzinfo=datetime.timezone.utc)
    """

    __slots__ = ("_any_hour", "_expression", "_zone")

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self._expression = _NAMED.get(expression, expression) if isinstance(expression, str) else ""
        try:
            self._zone = ZoneInfo(timezone)
        except (KeyError, ValueError, TypeError, OSError):
            raise BadCronSchedule("timezone", timezone, "give a name such as 'Europe/Prague', or 'UTC'") from None
        try:
            from cronsim import CronSimError
        except ImportError:
            remedy = "install what reads it: pip install 'foundation-otp[cron]'"
            raise BadCronSchedule("expression", expression, remedy) from None
        try:
            self._due_after(datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            remedy = f"give five fields, such as '*/5 * * * *', or @daily ({error})"
            raise BadCronSchedule("expression", expression, remedy) from None
        self._any_hour = self._expression.split()[-4].startswith("*")

    def next_after(self, now: float) -> float:
        """Return when it is due next.

        Args:
            now: seconds since the epoch.

        Returns:
            Seconds since the epoch.
        """
        local = datetime.fromtimestamp(now, UTC).astimezone(self._zone)
        twice = not local.fold and local.replace(fold=1).timestamp() != local.timestamp()
        found: list[float] = []
        begin = local.replace(tzinfo=None, fold=0) - timedelta(hours=1 if twice else 0)
        times = self._due_after(begin)
        while True:
            instants = self._instants(next(times))
            found += [instant for instant in instants if instant > now]
            if found and (not instants or instants[0] > now):
                return min(found)

    def _due_after(self, begin: datetime) -> CronSim:
        from cronsim import CronSim

        return CronSim(self._expression, begin)

    def _instants(self, due: datetime) -> list[float]:
        """Return when the clocks show a time: once; or never, or twice, as they are changed.

        What is due at certain hours is so once, the second time; what is due in any hour is so both times.
        """
        instants = []
        for fold in (0, 1):
            shown = due.replace(tzinfo=self._zone, fold=fold)
            if shown.astimezone(UTC).astimezone(self._zone).replace(tzinfo=None, fold=0) == due:
                instants.append(shown.timestamp())
        return sorted(set(instants)) if self._any_hour else instants[-1:]
