"""What the gate says of cases with and without failures, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from models.limits import Limits
from pipelines.stability import Verdict, judged, verdict_of

CLEAN = "clean"


@dataclass(frozen=True)
class Judged:
    """What the gate says of a case."""

    kind: str
    verdict: Verdict
    score: float
    """Of the worst finding: where its value lies between the limits of flagging and of holding."""
    worst: str


def judge(kind: str, measures: Mapping[str, float], limits: Mapping[str, Limits], only_limited: bool = False) -> Judged:
    """As the pipelines do; with `only_limited` findings without a limit are left out."""
    used = {name: value for name, value in measures.items() if name in limits or not only_limited}
    findings = [judged(name, value, "1", limits.get(name), name) for name, value in used.items()]
    scores = {name: _score(value, limits.get(name)) for name, value in used.items()}
    worst = max(scores, key=scores.__getitem__)
    return Judged(kind, verdict_of(findings), scores[worst], worst)


def _score(value: float, limits: Limits | None) -> float:
    """1 at the limit of holding, 0 at that of flagging; where they are the same, above 1 beyond them.

    Both limits lie so many SD of patients from the mean, so this counts SD, and findings compare.
    """
    if limits is None:
        return 1e3
    if value <= 0.0:
        return -10.0
    width = limits.hold_above - limits.flag_above
    if width > 0.0:
        return 1.0 + (value - limits.hold_above) / width
    return 2.0 + value if value > limits.hold_above else -10.0


def auroc(failures: Sequence[float], clean: Sequence[float]) -> float:
    """Of scores: chance that a failure has a larger one than a clean case."""
    return float(stats.mannwhitneyu(failures, clean).statistic / (len(failures) * len(clean)))


def table(cases: Sequence[Judged], kinds: Mapping[str, str], gross: Sequence[str]) -> str:
    """Markdown: one row for each kind, the false holds and the AUROC."""
    clean = [case.score for case in cases if case.kind == CLEAN]
    head = "| failure | cases | held | held or flagged | AUROC | finding that tells most |"
    rows = [
        _row(what, [case for case in cases if case.kind == kind], clean, kind in gross)
        for kind, what in kinds.items()
        if kind != CLEAN
    ]
    failures = [case for case in cases if case.kind != CLEAN]
    grave = [case for case in failures if case.kind in gross]
    fine = [case for case in cases if case.kind == CLEAN]
    said = [
        f"Clean cases: {len(fine)}, of which {_share(fine, (Verdict.HOLD,))} are held and "
        f"{_share(fine, (Verdict.HOLD, Verdict.FLAG))} held or flagged.",
        f"Failures: {len(failures)}, held {_share(failures, (Verdict.HOLD,))}; gross ones (*) {len(grave)}, held "
        f"{_share(grave, (Verdict.HOLD,))}.",
        f"AUROC over all: {auroc([case.score for case in failures], clean):.3f}.",
    ]
    return "\n".join([head, f"|{'---|' * 6}", *(row for row in rows if row), "", *said, ""])


def _row(what: str, cases: Sequence[Judged], clean: Sequence[float], is_gross: bool) -> str:
    if not cases:
        return ""
    worst = max({case.worst for case in cases}, key=[case.worst for case in cases].count)
    area = auroc([case.score for case in cases], clean)
    held, flagged = _share(cases, (Verdict.HOLD,)), _share(cases, (Verdict.HOLD, Verdict.FLAG))
    mark = " *" if is_gross else ""
    return f"| {what}{mark} | {len(cases)} | {held} | {flagged} | {area:.2f} | {worst} |"


def _share(cases: Sequence[Judged], verdicts: Sequence[Verdict]) -> str:
    return f"{100 * sum(case.verdict in verdicts for case in cases) / max(len(cases), 1):.0f} %"
