"""Roles of series: what a series is for, told from its header by the site's rules.

A rule is a closed set of conditions on data elements, never an expression; the first rule that matches names the role.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag, Tag

from node.headers import values_of

UNKNOWN_ROLE = "unknown"
"""The role of a series that no rule knows; no pipeline starts on it."""


class _Condition(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Glob(_Condition):
    """Any value of the element matches one of the patterns (`*`, `?`, `[...]`), upper and lower case alike."""

    glob: Annotated[tuple[str, ...], Field(min_length=1)]

    @field_validator("glob", mode="before")
    @classmethod
    def _one_or_many(cls, patterns: object) -> object:
        return (patterns,) if isinstance(patterns, str) else patterns

    def holds(self, values: list[str]) -> bool:
        """Whether the element's values fulfil the condition."""
        return any(fnmatchcase(value.lower(), pattern.lower()) for value in values for pattern in self.glob)


class Range(_Condition):
    """Any value of the element is a number between `min` and `max`, both included."""

    min: float = float("-inf")
    max: float = float("inf")

    def holds(self, values: list[str]) -> bool:
        """Whether the element's values fulfil the condition."""
        return any(self.min <= number <= self.max for number in map(_number, values) if number is not None)


class Absent(_Condition):
    """The element is absent or empty (`absent: true`), or has a value (`absent: false`)."""

    absent: bool

    def holds(self, values: list[str]) -> bool:
        """Whether the element's values fulfil the condition."""
        return self.absent is (not values)


class Exact(_Condition):
    """Any value of the element equals one of these, upper and lower case alike."""

    equals: tuple[str, ...]

    def holds(self, values: list[str]) -> bool:
        """Whether the element's values fulfil the condition."""
        return any(value.lower() == wanted.lower() for value in values for wanted in self.equals)


class RoleRule(BaseModel):
    """One entry of roles.yaml: the role, and what has to hold of the header.

    `all` conditions must all hold; of `any`, when given, at least one. A scalar or a list in the YAML means equality.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    role: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    all_of: Mapping[str, Exact | Glob | Range | Absent] = Field(default={}, alias="all")
    any_of: Mapping[str, Exact | Glob | Range | Absent] = Field(default={}, alias="any")

    @field_validator("all_of", "any_of", mode="before")
    @classmethod
    def _plain_values_mean_equality(cls, conditions: object) -> object:
        if not isinstance(conditions, dict):
            return conditions
        return {keyword: _as_condition(value) for keyword, value in conditions.items()}

    @model_validator(mode="after")
    def _knows_its_elements(self) -> "RoleRule":
        if not self.all_of and not self.any_of:
            raise ValueError("a rule without a condition would match everything")
        for keyword in (*self.all_of, *self.any_of):
            _tag_of(keyword)
        return self

    def matches(self, header: Dataset) -> bool:
        """Whether the header of an instance fulfils the rule."""
        every = all(condition.holds(values_of(header, _tag_of(keyword))) for keyword, condition in self.all_of.items())
        some = any(condition.holds(values_of(header, _tag_of(keyword))) for keyword, condition in self.any_of.items())
        return every and (some or not self.any_of)


def role_of(header: Dataset, rules: Iterable[RoleRule]) -> str:
    """The role that the first matching rule names, else UNKNOWN_ROLE."""
    return next((rule.role for rule in rules if rule.matches(header)), UNKNOWN_ROLE)


def tags_of(rules: Iterable[RoleRule]) -> list[BaseTag]:
    """The data elements that the rules look at."""
    return [_tag_of(keyword) for rule in rules for keyword in (*rule.all_of, *rule.any_of)]


def _as_condition(value: Any) -> Any:
    if isinstance(value, dict):
        return value
    values = value if isinstance(value, list) else [value]
    return {"equals": tuple(str(one) for one in values)}


def _tag_of(keyword: str) -> BaseTag:
    """Tag of a dictionary keyword, or of eight hexadecimal digits for a private element."""
    tag = tag_for_keyword(keyword)
    if tag is not None:
        return Tag(tag)
    if len(keyword) == 8 and all(digit in "0123456789abcdefABCDEF" for digit in keyword):
        return Tag(int(keyword, 16))
    raise ValueError(f"{keyword} is neither a DICOM keyword nor eight hexadecimal digits")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
