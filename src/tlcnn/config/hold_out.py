"""`dataset.hold_out`: which value of which column names the test images, such as `site:A`."""

import re
from dataclasses import dataclass

from tlcnn.errors import ConfigError

KEY = "dataset.hold_out"
_TEXT = re.compile(r"([^:]*\S[^:]*):(.+)", re.DOTALL)


@dataclass(frozen=True)
class HoldOut:
    """The images whose column has one of some values.

    Attributes:
        values: texts, sorted, each once.
    """

    column: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        """Return it as the configuration spells it, with its values sorted."""
        listed = ",".join(self.values)
        return f"{self.column}:[{listed}]" if len(self.values) > 1 else f"{self.column}:{listed}"

    @property
    def words(self) -> str:
        """The column and its values in words: `site A`, `site B or C`."""
        *first, last = self.values
        return f"{self.column} {', '.join(first)} or {last}" if first else f"{self.column} {last}"


def parse_hold_out(text: str) -> HoldOut:
    """Return what `COLUMN:VALUE` or `COLUMN:[VALUE,VALUE]` holds out.

    Example:
        >>> str(parse_hold_out("site:[B, A]")), parse_hold_out("site:A").words
        ('site:[A,B]', 'site A')

    Raises:
        ConfigError: the text is neither.
    """
    match = _TEXT.fullmatch(text.strip())
    column, value = match.groups() if match else ("", "")
    is_list = value.startswith("[") and value.endswith("]")
    values = {each.strip() for each in (value[1:-1].split(",") if is_list else [value])}
    if not match or "" in values:
        raise ConfigError(
            f"{KEY}={text} does not say what is held out: write COLUMN:VALUE, such as site:A, or "
            "COLUMN:[VALUE,VALUE]"
        )
    return HoldOut(column.strip(), tuple(sorted(values)))
