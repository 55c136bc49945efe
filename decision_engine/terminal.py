"""How tables look on a terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table


def new_table(title: str, show_header: bool = True) -> Table:
    """A table that fits 80 columns."""
    width = min(len(title), 78)  # rich breaks a title at the width of its table
    return Table(
        title=title,
        title_justify="left",
        show_header=show_header,
        box=SIMPLE_HEAD,
        min_width=width,
    )


def totals_table(title: str, totals: dict[str, Any]) -> Table:
    """Two columns: what, how many."""
    table = new_table(title, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in totals.items():
        told = " ".join(name.replace("_", " ").split())
        table.add_row(told, f"{value:,}" if isinstance(value, int) else str(value))
    return table
