"""Cone-beam projector and reconstruction: line integrals on a flat panel, and Feldkamp's filtered backprojection.

The arithmetic is that of RTK (https://www.openrtk.org), which is large and wanted by few: it is imported at the first
call. Volumes are [slice, row, column]; with head first supine the slice index grows towards the head, the row index
towards posterior, the column index towards the patient's left. Projections are [view, row, column]: rows run along the
slices, columns across them.

The source circles the patient around an axis through the isocenter, along the slices: at 0 degrees it is in front of
the patient (anterior), at 90 degrees on the patient's left, as IEC 61217 counts for a patient head first supine.
"""

import ctypes
import sys
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.intensity import Mask

Projections: TypeAlias = NDArray[np.float32]
"""[view, row, column]."""
Triple: TypeAlias = tuple[float, float, float]

_FULL_TURN_DEG = 360.0


class ConeBeamUnavailable(Exception):
    """The library for cone-beam geometry is not installed; the message is one plain sentence."""


@dataclass(frozen=True)
class ConeBeamGeometry:
    """Where the source and the panel are, view by view."""

    rows: int
    columns: int
    row_mm: float
    """Pitch of the rows on the detector."""
    column_mm: float
    views: int
    arc_deg: float = _FULL_TURN_DEG
    """Less than a full turn is a short scan; it has to be half a turn and the fan angle at least."""
    first_deg: float = 0.0
    """Gantry angle of the first view; the others follow in equal steps of arc_deg / views."""
    offset_mm: float = 0.0
    """How far the middle of the panel lies beside the central ray (half fan); 0 is the full fan."""
    source_isocenter_mm: float = 1000.0
    source_detector_mm: float = 1500.0
    isocenter_zyx_mm: Triple = (0.0, 0.0, 0.0)
    """From the centre of the volume, along its axes."""

    def angles_deg(self) -> NDArray[np.float64]:
        """Gantry angle of every view."""
        return np.asarray(self.first_deg + np.arange(self.views) * (self.arc_deg / self.views), np.float64)

    def column_positions_mm(self) -> NDArray[np.float64]:
        """Distance of every column from the central ray, on the detector."""
        return np.asarray(_centred(self.columns, self.column_mm) + self.offset_mm, np.float64)

    def axis_distances_mm(self) -> NDArray[np.float64]:
        """How near to the axis of rotation the rays of every column pass, in the central plane."""
        fan_rad = np.arctan2(np.abs(self.column_positions_mm()), self.source_detector_mm)
        return np.asarray(self.source_isocenter_mm * np.sin(fan_rad), np.float64)

    def is_short_scan(self) -> bool:
        """Whether the views make less than a full turn."""
        return self.arc_deg < _FULL_TURN_DEG

    def seen(self, shape_zyx: tuple[int, int, int], spacing_zyx_mm: Triple) -> Mask:
        """Voxels inside the field of view; [slice, row, column].

        That is the circle that the panel covers from every side, and in it what no view loses over the panel's upper or
        lower edge.
        """
        up, back, left = _voxel_positions_mm(shape_zyx, spacing_zyx_mm, self.isocenter_zyx_mm)
        from_axis = np.hypot(back[:, None], left[None, :])
        reach = np.abs(self.column_positions_mm()).max() + self.column_mm / 2.0
        circle_mm = self.source_isocenter_mm * np.sin(np.arctan2(reach, self.source_detector_mm))
        # The nearer a voxel comes to the source, the less of the panel's height covers it.
        slope = self.rows * self.row_mm / 2.0 / self.source_detector_mm
        half_height_mm = slope * (self.source_isocenter_mm - from_axis)
        return np.asarray((from_axis <= circle_mm) & (np.abs(up)[:, None, None] <= half_height_mm), np.bool_)


def forward_projected(
    volume_zyx: NDArray[Any],
    spacing_zyx_mm: Triple,
    geometry: ConeBeamGeometry,
    views: NDArray[np.intp] | None = None,
) -> Projections:
    """Line integrals by Joseph's method: [view, row, column], unit of the volume times mm.

    `views` are the indices of the views that are wanted, all if not given.

    Raises
    ------
    ConeBeamUnavailable
        If the library is not installed.

    References
    ----------
    Joseph, IEEE Trans Med Imaging 1982, doi 10.1109/TMI.1982.4307572
    """
    library = _library()
    angles_deg = geometry.angles_deg() if views is None else geometry.angles_deg()[views]
    # The filter writes into the stack that it is given, so every call gets a new one.
    empty = np.zeros((len(angles_deg), geometry.rows, geometry.columns), np.float32)
    projector = library.joseph.New()
    projector.SetGeometry(_circle(geometry, angles_deg))
    projector.SetInput(0, _panel_image(empty, geometry))
    projector.SetInput(1, _volume_image(volume_zyx, spacing_zyx_mm, geometry))
    projector.Update()
    return _array(projector.GetOutput())


def reconstructed(
    projections: Projections,
    geometry: ConeBeamGeometry,
    shape_zyx: tuple[int, int, int],
    spacing_zyx_mm: Triple,
    *,
    hann_cut: float = 1.0,
    truncation_pad: float = 0.0,
) -> NDArray[np.float32]:
    """Volume from its line integrals, by Feldkamp's method: [slice, row, column], unit of the line integrals per mm.

    A short scan is weighted after Parker, a displaced panel so that every line counts once. `hann_cut` is where the
    Hann window of the ramp filter reaches zero, as a fraction of the Nyquist frequency; 0 is no window.
    `truncation_pad` continues rows that are cut off by the panel's edge, by this fraction of their length.

    Raises
    ------
    ConeBeamUnavailable
        If the library is not installed.
    ValueError
        If a displaced panel makes less than a full turn.

    References
    ----------
    Feldkamp et al., J Opt Soc Am A 1984, doi 10.1364/JOSAA.1.000612
    Parker, Med Phys 1982, doi 10.1118/1.595078
    """
    if geometry.offset_mm and geometry.is_short_scan():
        raise ValueError("a displaced panel needs a full turn")
    library, circle = _library(), _circle(geometry, geometry.angles_deg())
    weighted = (library.parker if geometry.is_short_scan() else library.displaced).New()
    weighted.SetGeometry(circle)
    weighted.SetInput(_panel_image(projections, geometry))
    feldkamp = library.feldkamp.New()
    feldkamp.SetGeometry(circle)
    feldkamp.SetInput(0, _volume_image(np.zeros(shape_zyx, np.float32), spacing_zyx_mm, geometry))
    feldkamp.SetInput(1, weighted.GetOutput())
    feldkamp.GetRampFilter().SetHannCutFrequency(hann_cut)
    feldkamp.GetRampFilter().SetTruncationCorrection(truncation_pad)
    feldkamp.Update()
    return np.ascontiguousarray(_array(feldkamp.GetOutput())[::-1].transpose(1, 0, 2))


@dataclass(frozen=True)
class _Library:
    """Classes of ITK and RTK for volumes of float32."""

    image: Any
    buffer: Any
    circle: Any
    joseph: Any
    feldkamp: Any
    parker: Any
    displaced: Any


@cache
def _library() -> _Library:
    with warnings.catch_warnings():
        # The extension modules crash the interpreter where their deprecation warnings are turned into errors.
        warnings.simplefilter("ignore")
        try:
            # By the modules that hold them: `itk.RTK` loads all of RTK and of ITK, which takes three times as long.
            from itk import (
                itkImagePython,
                itkPyBufferPython,
                itkVnlFFTImageFilterInitFactoryPython,
                rtkDisplacedDetectorImageFilterPython,
                rtkFDKConeBeamReconstructionFilterPython,
                rtkJosephForwardProjectionImageFilterPython,
                rtkParkerShortScanImageFilterPython,
                rtkThreeDCircularProjectionGeometryPython,
            )
        except ImportError as error:
            raise ConeBeamUnavailable(
                "cone-beam geometry needs itk-rtk: install rtnode with the extra cone-beam"
            ) from error
    _keep_types_of_extensions()
    # What computes the Fourier transforms of the ramp filter.
    itkVnlFFTImageFilterInitFactoryPython.itkVnlFFTImageFilterInitFactory.RegisterFactories()
    return _Library(
        itkImagePython.itkImageF3,
        itkPyBufferPython.itkPyBufferIF3,
        rtkThreeDCircularProjectionGeometryPython.rtkThreeDCircularProjectionGeometry,
        rtkJosephForwardProjectionImageFilterPython.rtkJosephForwardProjectionImageFilterIF3IF3,
        rtkFDKConeBeamReconstructionFilterPython.rtkFDKConeBeamReconstructionFilterIF3,
        rtkParkerShortScanImageFilterPython.rtkParkerShortScanImageFilterIF3,
        rtkDisplacedDetectorImageFilterPython.rtkDisplacedDetectorImageFilterIF3,
    )


def _keep_types_of_extensions() -> None:
    """Leave the wrappers' table of types to the end of the process: taking it down can crash the interpreter's exit.

    It makes one more type then, which warns, and does not bear that the interpreter turns the warning into an error
    (https://github.com/swig/swig/issues/3061); that happens when the last warning of the program was made one.
    """
    for name, module in list(sys.modules.items()):
        if name.startswith("swig_runtime_data"):
            # A reference that nobody gives back.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(module.type_pointer_capsule))


def _circle(geometry: ConeBeamGeometry, angles_deg: NDArray[np.float64]) -> Any:
    circle = _library().circle.New()
    for angle_deg in angles_deg:
        distances_mm = geometry.source_isocenter_mm, geometry.source_detector_mm
        circle.AddProjection(*distances_mm, float(angle_deg), geometry.offset_mm, 0.0)
    return circle


def _panel_image(projections: NDArray[Any], geometry: ConeBeamGeometry) -> Any:
    pitch_mm = (geometry.column_mm, geometry.row_mm, 1.0)
    first_mm = (
        float(_centred(geometry.columns, geometry.column_mm)[0]),
        float(_centred(geometry.rows, geometry.row_mm)[0]),
        0.0,
    )
    return _image(projections, pitch_mm, first_mm)


def _volume_image(volume_zyx: NDArray[Any], spacing_zyx_mm: Triple, geometry: ConeBeamGeometry) -> Any:
    """RTK's axes are those of IEC 61217: x to the patient's left, y (the axis of rotation) to the head, z anterior."""
    slice_mm, row_mm, column_mm = spacing_zyx_mm
    up, back, left = _voxel_positions_mm(volume_zyx.shape, spacing_zyx_mm, geometry.isocenter_zyx_mm)
    first_mm = (float(left[0]), float(up[0]), float(-back[-1]))
    return _image(volume_zyx.transpose(1, 0, 2)[::-1], (column_mm, slice_mm, row_mm), first_mm)


def _image(array: NDArray[Any], spacing_mm: Triple, origin_mm: Triple) -> Any:
    image = _library().image.New()
    image.SetRegions([int(size) for size in array.shape[::-1]])
    # A copy in memory of ITK: filters may write into it, and keep it when nothing here refers to it any more.
    image.Allocate()
    _view(image)[...] = array
    image.SetSpacing(spacing_mm)
    image.SetOrigin(origin_mm)
    return image


def _array(image: Any) -> NDArray[np.float32]:
    return _view(image).copy()


def _view(image: Any) -> NDArray[np.float32]:
    """The memory of the image, for as long as that lives."""
    # The public function first looks whether it is another kind of image, for which it loads all of ITK.
    values = np.frombuffer(_library().buffer._GetArrayViewFromImage(image), np.float32)
    return values.reshape([int(size) for size in image.GetBufferedRegion().GetSize()][::-1])


def _voxel_positions_mm(
    shape_zyx: tuple[int, ...], spacing_zyx_mm: Triple, isocenter_zyx_mm: Triple
) -> list[NDArray[np.float64]]:
    """From the isocenter, one array for each axis."""
    return [_centred(n, mm) - at for n, mm, at in zip(shape_zyx, spacing_zyx_mm, isocenter_zyx_mm, strict=True)]


def _centred(count: int, step_mm: float) -> NDArray[np.float64]:
    return np.asarray((np.arange(count) - (count - 1) / 2.0) * step_mm, np.float64)
