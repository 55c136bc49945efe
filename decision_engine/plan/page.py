"""The plan as one HTML page with its plots in it: no script, nothing loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from decision_engine.evaluate import Estimate
from decision_engine.plan.report import APPROVALS, estimates, headline
from decision_engine.plan.result import Plan
from decision_engine.plan.tally import Change

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:right}
td:first-child,th:first-child{text-align:left}th{border-bottom:1px solid #999}
.warning{background:#fff3cd;padding:.4rem .8rem;margin:.3rem 0;border-left:4px solid #e0a800}
svg{max-width:100%}text{font:12px system-ui,sans-serif}code{overflow-wrap:anywhere}
"""
_LEGEND = (
    '<p><span style="color:#9aa5b1">■</span> before <span style="color:#1f6feb">■</span> after</p>'
)
_WIDTH, _LEFT, _ROW = 860, 250, 34
_BEFORE, _AFTER = "#9aa5b1", "#1f6feb"


def page(plan: Plan) -> str:
    """The whole page."""
    head, *rest = headline(plan)
    parts = [
        f"<h1>{escape(head.rstrip(':'))}</h1>",
        *(f"<p>{escape(line)}</p>" for line in rest),
        *(f'<div class="warning">{escape(warning)}</div>' for warning in plan.warnings),
        *_edits(plan),
    ]
    if plan.different or plan.days > 1 or plan.approvals:
        parts += [
            _LEGEND,
            *_plot(APPROVALS, plan.approvals),
            *_plot("Messages by channel", plan.sends),
            *_plot("Decisions by agent", {n: a.decisions for n, a in plan.agents.items()}),
            *_plot("Given away at most, cents", plan.incentive_cents),
            *_plot("Seconds that sending takes at the vendors' limits, at least", plan.seconds),
            *_plot("Actions", plan.actions),
            *_plot("Decisions in which a guardrail ruled a message out", plan.guardrails),
            *_days(plan),
            *_segments(plan),
        ]
    parts += _estimates(plan)
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>nextmove plan</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _edits(plan: Plan) -> list[str]:
    if not plan.edits:
        return []
    rows = ([f"<code>{escape(text)}</code>" for text in edit] for edit in plan.edits)
    return ["<h2>Edited</h2>", _table(("where", "before", "after"), rows)]


def _segments(plan: Plan) -> list[str]:
    out = []
    names = ("decisions", "that change", "messages before", "after")
    for column, values in plan.segments.items():
        rows = (
            [escape(v), f"{s.decisions:,}", f"{s.different:,}", *(f"{n:,}" for n in s.sends)]
            for v, s in values.items()
        )
        out += [f"<h2>By {escape(column)}</h2>", _table((column, *names), rows)]
    return out


def _days(plan: Plan) -> list[str]:
    if plan.days == 1:
        return []
    return _plot("Messages by day", {f"day {i + 1}": day for i, day in enumerate(plan.daily)})


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are HTML already."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _plot(title: str, changes: Mapping[str, Change]) -> list[str]:
    """Two bars a row, on one scale."""
    largest = max((max(change) for change in changes.values()), default=0)
    if not largest:
        return []
    scale = (_WIDTH - _LEFT - 200) / largest
    rows = [
        _bars(i * _ROW, name, change, scale) for i, (name, change) in enumerate(changes.items())
    ]
    return [f"<h2>{escape(title)}</h2>", _svg(len(changes) * _ROW, "".join(rows))]


def _bars(y: int, name: str, change: Change, scale: float) -> str:
    label = f'<text x="{_LEFT - 8}" y="{y + 18}" text-anchor="end">{escape(_short(name))}</text>'
    bars = "".join(
        f'<rect x="{_LEFT}" y="{y + 3 + 13 * i}" width="{n * scale:.1f}" height="11"'
        f' fill="{colour}"/>'
        for i, (n, colour) in enumerate(zip(change, (_BEFORE, _AFTER), strict=True))
    )
    end = _LEFT + max(change) * scale + 8
    difference = change.after - change.before
    says = f"{change.before:,} → {change.after:,} ({difference:+,})"
    return f'{label}{bars}<text x="{end:.1f}" y="{y + 18}">{says}</text>'


def _estimates(plan: Plan) -> list[str]:
    """The estimates as sentences, and the given ones as intervals around zero."""
    lines = estimates(plan)
    given = {
        name: agent.expected.change
        for name, agent in plan.agents.items()
        if agent.expected
        and agent.expected.change.verdict == "estimated"
        and agent.expected.change.value != 0
    }
    out = [f"<h2>{escape(lines[0])}</h2>"] if lines else []
    if given:
        out.append(_intervals(given))
    return out + [f"<p>{escape(line.removeprefix('- '))}</p>" for line in lines[1:]]


def _intervals(given: Mapping[str, Estimate]) -> str:
    reach = max(max(abs(e.low), abs(e.high)) for e in given.values())
    middle, half = _LEFT + (_WIDTH - _LEFT) / 2, (_WIDTH - _LEFT) / 2 - 20
    height = len(given) * _ROW
    parts = [f'<line x1="{middle}" x2="{middle}" y1="0" y2="{height}" stroke="#999"/>']
    for i, (name, e) in enumerate(given.items()):
        y = i * _ROW + 14
        low, value, high = (middle + half * v / reach for v in (e.low, e.value, e.high))
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{escape(_short(name))}</text>'
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{_AFTER}"'
            f' stroke-width="3"/><circle cx="{value:.1f}" cy="{y}" r="5" fill="{_AFTER}"/>'
        )
    return _svg(height, "".join(parts))


def _svg(height: int, content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">{content}</svg>'


def _short(name: str) -> str:
    return name if len(name) <= 38 else f"{name[:37]}…"
