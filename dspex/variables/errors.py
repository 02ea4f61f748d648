"""What can be wrong with variables, and with the values that are given to them."""

from __future__ import annotations


class VariableError(ValueError):
    """A variable, a value or a space cannot be as it was given. ``variable`` is the name of which."""

    def __init__(self, variable: str, why: str) -> None:
        self.variable = variable
        super().__init__(f"variable {variable!r}: {why}")


class BadVariable(VariableError):
    """There can be no such variable."""


class BadValue(VariableError):
    """A variable does not take a value."""

    def __init__(self, variable: str, value: object, remedy: str) -> None:
        self.value = value
        super().__init__(variable, f"{value!r}: {remedy}")


class BadConfiguration(ValueError):
    """The values do not fit each other, or the space. ``problems`` has them all."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))
