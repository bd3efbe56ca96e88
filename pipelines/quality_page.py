"""The page that a physicist reads in ten seconds: the verdict, the picture, every finding against its limits.

It lies beside the files of a result and names no patient. The node shows the same, with the control charts, which only
the ledger can draw.
"""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from models.intensity import AIR_HU
from pipelines.base import InputRejected
from pipelines.dicom.image_series import read_image_series
from pipelines.dicom.volume import axis_order
from pipelines.dicom.writing import write_whole
from pipelines.finding_bars import COLOURS, findings_table
from pipelines.stability import QUALITY_PAGE, QUALITY_PICTURE, Finding, Verdict, verdict_of

_SENTENCES = {
    Verdict.RELEASE: "release: all findings are usual",
    Verdict.FLAG: "flag: sent, with a label",
    Verdict.HOLD: "hold: nothing is sent until a named person releases it",
}
_STYLE = """body { font: 15px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 80rem; padding: 1rem; }
h1 { font-size: 1.2rem; } .verdict { border-radius: .4rem; color: white; padding: .4rem .8rem; font-weight: 600; }
img { max-width: 100%; } table { border-collapse: collapse; } td, th { padding: .2rem .5rem; text-align: left; }"""


def write_quality_page(
    before: Sequence[Path], made: Mapping[str, Sequence[Path]], findings: Sequence[Finding], folder: Path, title: str
) -> None:
    """Write page and picture into the folder of a result; the same for the same arguments, byte for byte.

    Parameters
    ----------
    before
        Files of the series that started the job.
    made
        Files of the result, by modality.
    title
        Name of the pipeline.
    """
    has_picture = draw_result(before, made, folder / QUALITY_PICTURE)
    verdict = verdict_of(findings)
    picture = f'<p><img src="{QUALITY_PICTURE}" alt="before and after"></p>' if has_picture else ""
    colours = "\n".join(f".{one} {{ color: {colour}; font-weight: 600; }}" for one, colour in COLOURS.items())
    page = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{escape(title)}: {verdict}</title>
<style>
{_STYLE}
{colours}
</style></head>
<body>
<h1>{escape(title)}</h1>
<p><span class="verdict" style="background: {COLOURS[verdict]}">{_SENTENCES[verdict]}</span></p>
{picture}
{findings_table(findings)}
</body>
</html>
"""
    write_whole(folder / QUALITY_PAGE, page.encode())


def draw_result(before: Sequence[Path], made: Mapping[str, Sequence[Path]], png: Path) -> bool:
    """Draw organs on the images, or images before and after; False where the result holds neither."""
    drawn = png.with_name(f"drawn_{png.name}")
    # The plotting library is loaded by the jobs that draw, not by those who only know the names of the files.
    try:
        if made.get("SEG"):
            from pipelines.organ_pictures import organs_on_images

            organs_on_images(before, made["SEG"][0], drawn, "")
        elif made.get("CT"):
            _draw_change(before, made["CT"], drawn)
        else:
            return False
        write_whole(png, drawn.read_bytes())
    except InputRejected:
        # A result that can not be drawn is judged by its findings all the same.
        return False
    finally:
        drawn.unlink(missing_ok=True)
    return True


def _draw_change(before: Sequence[Path], after: Sequence[Path], png: Path) -> None:
    from models.quality_figure import draw_change

    result = read_image_series(after)
    order = axis_order(result.volume)
    after_zyx = order.canonical(result.filled_zyx(AIR_HU))
    before_zyx = None
    # More files than the result has slices are projections: reading them again would take minutes.
    if len(before) <= len(after):
        source = read_image_series(before)
        if source.volume.same_grid(result.volume):
            before_zyx = order.canonical(source.filled_zyx(AIR_HU))
    draw_change(before_zyx, after_zyx, order.spacing_zyx_mm(result.volume), png)
