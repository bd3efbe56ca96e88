"""What a node has to know of a network that was trained elsewhere; the card of its weights states it.

A network sees an array whose axes point where those of its training images did. `axes` names these directions, one
letter for each axis of the array in its order: S or I (head, feet), P or A (back, front), L or R of the patient. The
node's own volumes are SPL. Shapes, spacings and numbers of axes in this file are in the order of `axes`.
"""

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PositiveFloat, PositiveInt, model_validator

OWN_AXES = "SPL"
"""Slices to the head, rows to posterior, columns to the patient's left."""
_OPPOSITE = str.maketrans("IAR", OWN_AXES)

MOST_ORGANS = 254
"""A label is a byte, and 0 is what is no organ."""
_LARGEST_SIDE = 4096
_FEWEST_VOXELS = 4
_MOST_VOXELS = 1 << 27
"""A patch of half a billion bytes of float32; a network of that reach fits no machine."""

Side: TypeAlias = Annotated[int, Field(gt=0, le=_LARGEST_SIDE)]
Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f\\]+$")]
"""As a Segment Label takes it (VR LO)."""
SplineOrder: TypeAlias = Literal[0, 1, 2, 3, 4, 5]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Normalisation(_Frozen):
    """What is done to the HU before the network sees them."""

    scheme: Literal["linear", "z_score", "range"]
    """`linear`: (clipped HU - subtract) / divide. `z_score`: to mean 0 and SD 1. `range`: smallest 0, largest 1."""
    clip_hu: tuple[float, float] | None = None
    subtract: float = 0.0
    divide: float = Field(default=1.0, gt=0.0)
    inside_nonzero: bool = False
    """Of `z_score`: over the voxels that are not 0 and what they enclose, and only there."""


class Resampling(_Frozen):
    """How a volume gets another number of voxels."""

    grid: Literal["field_of_view", "first_voxel"] = "field_of_view"
    """What the grids before and after have in common; of `first_voxel`, its middle."""
    order: SplineOrder = 1
    """Of the spline."""
    order_between_slices: SplineOrder = 0
    """Of the spline along the axis that is resampled by itself."""
    slices_apart: bool | None = False
    """Whether the axis of the coarsest spacing is resampled by itself; None: where it is three times the finest."""


class Architecture(_Frozen):
    """How a network is built before it gets its weights; empty for a program, which brings its own."""

    network: str = ""
    """Name in an allow-list of the module that builds it; never looked up anywhere else."""
    settings: dict[str, JsonValue] = {}


class ImportedModel(_Frozen):
    """Everything that is done around the network."""

    organs: tuple[Name, ...] = Field(min_length=1, max_length=MOST_ORGANS)
    """Names of the outputs of the network behind the first, which is what is none of them; TG-263 where known."""
    original_organs: tuple[Name, ...] = ()
    """What those who trained it call them, in the same order; empty where that is the same."""
    axes: str = Field(default=OWN_AXES, pattern=r"^[SIPALR]{3}$")
    spacing_mm: tuple[PositiveFloat | None, PositiveFloat | None, PositiveFloat | None]
    """Images are resampled to this; None: that axis stays as it is."""
    patch: tuple[Side, Side, Side]
    """Voxels that the network sees at a time; 1 along the first axis of a network of two dimensions."""
    dimensions: Literal[2, 3] = 3
    """Of the network; one of two sees slices along the first axis."""
    overlap: float = Field(default=0.5, ge=0.0, le=0.9)
    """Part of a patch that the next one covers too."""
    gaussian: bool = True
    """Whether the middle of a patch counts more than its rim."""
    mirrored: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    """Axes along which the image is turned over for further results, of which the mean is taken."""
    normalisation: Normalisation
    normalised_first: bool = True
    """Before the image is resampled, not after."""
    crop_to_nonzero: bool = False
    resampling: Resampling = Resampling()
    """Of the image."""
    result_resampling: Resampling = Resampling()
    """Of what the network says, back to the grid of the image."""
    output: Literal["logits", "probabilities"] = "logits"
    """Of the network."""
    resampled_output: Literal["logits", "probabilities"] = "logits"
    """What of it goes back to the grid of the image; the class of a voxel is the highest there."""
    windows: Literal["even", "strides"] = "even"
    """Where patches lie: `even`, or each one stride behind the one before and the last at the end of the volume."""
    members: PositiveInt = 1
    """Networks of one architecture whose mean is the result."""
    architecture: Architecture = Architecture()

    @model_validator(mode="after")
    def _holds_together(self) -> "ImportedModel":
        if sorted(self.axes.translate(_OPPOSITE)) != sorted(OWN_AXES):
            raise ValueError(f"{self.axes} does not name each direction of the patient once")
        if len(set(self.organs)) < len(self.organs):
            raise ValueError("two labels are of the same organ")
        if not _FEWEST_VOXELS <= self.patch[0] * self.patch[1] * self.patch[2] <= _MOST_VOXELS:
            raise ValueError(f"a patch of {self.patch} voxels can not be used")
        if self.dimensions == 2 and (self.patch[0] != 1 or self.spacing_mm[0] is not None or 0 in self.mirrored):
            raise ValueError("a network of two dimensions sees slices as they are, one at a time")
        return self

    def turned_axes(self) -> tuple[tuple[int, int, int], tuple[int, ...]]:
        """Order in which the network has the axes of an SPL volume, and which of its axes are turned over."""
        first, second, third = (OWN_AXES.index(letter) for letter in self.axes.translate(_OPPOSITE))
        flips = tuple(axis for axis, letter in enumerate(self.axes) if letter not in OWN_AXES)
        return (first, second, third), flips
