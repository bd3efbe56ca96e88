"""`rtnode models import`: make verified weights of a model that was trained elsewhere."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from node.errors import NodeError

_KIND = "nnunet, monai, onnx or torchscript; if left out, what lies there."
_LABELS = (
    "For a program (ONNX, TorchScript): YAML with labels, spacing_mm, patch, window_hu. "
    "Else: YAML with TG-263 names by the names of the model."
)
_AXES = "Directions of the first, second and third axis of the training images: LPS, RAS, ..."
_PIPELINE = """\
class: pipelines.segmentation:Segmentation
settings:
  {settings}
  one_piece: false                 # true: keep only the largest piece of each organ; not where a label is of two sides
when:
  role: planning_ct
send_to: [TPS]                     # names of peers.yaml; held results go nowhere until a person releases them
limits:
  time_s: 3600
  memory_gib: 16
labelling:
  content_qualification: RESEARCH
  not_for_treatment: true
  approved_by: null
"""


def import_model(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder of an nnU-Net or MONAI bundle, or a program.")],
    kind: Annotated[str | None, typer.Option(help=_KIND)] = None,
    name: Annotated[str | None, typer.Option(help="Name of the weights; that of PATH if left out.")] = None,
    labels: Annotated[Path | None, typer.Option(metavar="FILE", help=_LABELS)] = None,
    axes: Annotated[str | None, typer.Option(help=_AXES)] = None,
    folds: Annotated[str | None, typer.Option(help="Of an nnU-Net: 0,1 or all; every trained one if left out.")] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where weights and card go.")] = Path(),
) -> None:
    """Import a segmentation model that was trained elsewhere: nnU-Net, MONAI bundle, ONNX or TorchScript."""
    from models.imports.importing import KINDS, found_model, kind_of, written
    from models.weights import WeightsError

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind} is none of {', '.join(KINDS)}", param_hint="--kind")
    try:
        kind = kind or kind_of(path)
        is_program = path.is_file()
        found = found_model(
            path,
            kind,
            _naming(None if is_program else labels),
            labels if is_program else None,
            axes,
            None if folds is None else [fold.strip() for fold in folds.split(",")],
        )
        card = written(found, output / f"{_plain(name or path.resolve().stem)}.safetensors")
    except WeightsError as error:
        raise NodeError(str(error)) from error
    _show(card, output)


def _naming(file: Path | None) -> Callable[[str], str]:
    """From the names of a model to TG-263 names: first those of the file, then those that are known."""
    from pipelines.dicom.label_names import tg263_name

    stated = {} if file is None else _names(file)
    return lambda label: tg263_name(stated.get(label, label))


def _names(file: Path) -> dict[str, str]:
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{file} can not be read: {error}", param_hint="--labels") from error
    if not isinstance(content, dict) or not all(isinstance(one, str) for pair in content.items() for one in pair):
        raise typer.BadParameter(f"{file} is no mapping of names to names", param_hint="--labels")
    return content


def _plain(name: str) -> str:
    """A name that a file can have everywhere."""
    return re.sub(r"[^\w-]+", "_", name, flags=re.ASCII).strip("_") or "imported"


def _show(card: Any, output: Path) -> None:
    from pipelines.dicom.structure_names import standard_name

    model, weights = card.imported, output / f"{card.name}.safetensors"
    typer.echo(f"weights and card: {weights}")
    typer.echo(f"sha256: {card.sha256}")
    typer.echo(f"axes {model.axes}, spacing {_listed(model.spacing_mm)} mm, patch {_listed(model.patch)} voxels")
    table = Table("label", "name in the model", "here", "TG-263")
    for number, organ in enumerate(model.organs, 1):
        theirs = model.original_organs[number - 1]
        table.add_row(str(number), escape(theirs), escape(organ), "yes" if standard_name(organ) else "no")
    Console().print(table)
    typer.echo("A pipeline that runs it, to be copied to config/pipelines/NAME.yaml:\n")
    typer.echo(_pipeline(weights))


def _listed(values: tuple[float | None, ...]) -> str:
    return " x ".join("own" if value is None else f"{value:g}" for value in values)


def _pipeline(weights: Path) -> str:
    return _PIPELINE.format(settings=yaml.safe_dump({"weights": str(weights.resolve())}, width=1000).strip())
