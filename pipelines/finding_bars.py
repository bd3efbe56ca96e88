"""Each finding as a bar against its limits, in SVG without script or style: a look tells how near to the edge it is."""

from collections.abc import Sequence
from html import escape

from pipelines.stability import Finding, Verdict

COLOURS = {Verdict.RELEASE: "#2a8a4a", Verdict.FLAG: "#b7791f", Verdict.HOLD: "#c0392b"}
WIDTH, HEIGHT = 260, 18
"""Of a bar, in pixels."""
_BEYOND = 1.5
"""The bar ends at so many times the limit that holds, or at the value where that is larger."""


def bar_svg(finding: Finding) -> str:
    """The bar: what is released (green), flagged (amber) and held (red), with a mark at the value."""
    title = f"<title>{escape(finding.text)}</title>"
    limits = finding.limits()
    if limits is None:
        colour = COLOURS[finding.verdict]
        shapes = f'<rect x="0" y="5" width="{WIDTH}" height="8" fill="{colour}" fill-opacity="0.25"/>'
        return _svg(f"{title}{shapes}")
    end = max(limits.hold_above * _BEYOND, finding.value, limits.hold_above + 1e-9)
    places = [_place(value, end) for value in (0.0, limits.flag_above, limits.hold_above, end)]
    zones = [
        f'<rect x="{left:.1f}" y="5" width="{right - left:.1f}" height="8" fill="{COLOURS[verdict]}"'
        ' fill-opacity="0.45"/>'
        for left, right, verdict in zip(places, places[1:], COLOURS, strict=False)
    ]
    mark = f'<rect x="{_place(finding.value, end) - 2:.1f}" y="0" width="4" height="{HEIGHT}" fill="currentColor"/>'
    return _svg(f"{title}{''.join(zones)}{mark}")


def findings_table(findings: Sequence[Finding]) -> str:
    """All findings as an HTML table, the gravest first: name, value, unit, bar, limits, verdict and sentence."""
    gravest_first = sorted(findings, key=lambda one: -list(Verdict).index(one.verdict))
    head = "<tr><th>finding</th><th>value</th><th>unit</th><th></th><th>flag, hold above</th><th>verdict</th><th></th>"
    return f"<table>{head}</tr>{''.join(map(_row, gravest_first))}</table>"


def _row(finding: Finding) -> str:
    limits = finding.limits()
    stated = f"{limits.flag_above:.3g}, {limits.hold_above:.3g}" if limits else "none"
    cells = (escape(finding.name), f"{finding.value:.3g}", escape(finding.unit), bar_svg(finding), stated)
    verdict = f'<td class="{finding.verdict}">{finding.verdict}</td>'
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}{verdict}<td>{escape(finding.text)}</td></tr>"


def _place(value: float, end: float) -> float:
    return WIDTH * min(max(value / end, 0.0), 1.0)


def _svg(content: str) -> str:
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg class="bar" role="img" {size}>{content}</svg>'
