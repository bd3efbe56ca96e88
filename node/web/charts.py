"""A control chart in SVG without script or style."""

from html import escape

from node.ledger.trends import Chart

WIDTH, HEIGHT = 300, 90
_MARGIN = 6
_LINES = ((3.0, "#c0392b"), (2.0, "#b7791f"), (0.0, "#2a8a4a"))
"""Sigma from the mean, and the colour of the line."""


def chart_svg(chart: Chart) -> str:
    """The points of a chart, oldest left, with mean and limits; those that broke a rule are red."""
    values = [point.value for point in chart.points]
    baseline = chart.baseline
    limits = [limit for sigmas, _ in _LINES for limit in baseline.limits(sigmas)] if baseline else []
    low, high = min(*values, *limits, values[0]), max(*values, *limits, values[0])

    def height(value: float) -> float:
        share = (value - low) / (high - low) if high > low else 0.5
        return HEIGHT - _MARGIN - share * (HEIGHT - 2 * _MARGIN)

    step = (WIDTH - 2 * _MARGIN) / max(1, len(values) - 1)
    places = [(_MARGIN + step * number, height(value)) for number, value in enumerate(values)]
    drawn = [
        f'<line x1="0" x2="{WIDTH}" y1="{height(limit):.1f}" y2="{height(limit):.1f}" stroke="{colour}"/>'
        for sigmas, colour in (_LINES if baseline else ())
        for limit in sorted(set(baseline.limits(sigmas) if baseline else ()))
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    drawn.append(f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-opacity="0.5"/>')
    drawn += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{"#c0392b" if point.rules else "currentColor"}"/>'
        for (x, y), point in zip(places, chart.points, strict=True)
    ]
    title = f"<title>{escape(f'{chart.finding}: {chart.sentence()}')}</title>"
    size = f'width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}"'
    return f'<svg class="chart" role="img" {size}>{title}{"".join(drawn)}</svg>'
