"""Settings of the filters of the second IBSI standard: what is done to the image before features are computed.

Lengths are in mm, or in voxels of the resampled image where the name says so.

References
----------
Depeursinge et al., arXiv 2006.05470; Whybra et al., Radiology 2024, doi 10.1148/radiol.231319
"""

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Pooling = Literal["max", "min", "mean"]
Boundary = Literal["constant", "nearest", "wrap", "reflect", "mirror"]


class _Filter(BaseModel):
    """What all filters have: their kind, and how the image goes on beyond its border."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boundary: Boundary = "reflect"
    """As in scipy.ndimage. IBSI's names are zero padding, nearest, periodise and mirror for the first four."""

    @abstractmethod
    def library_arguments(self) -> dict[str, Any]:
        """The settings as mirp names them."""

    def directions(self) -> int | None:
        """Number of directions that the filter states a kernel for; None where it is alike in all."""
        return None


class MeanFilter(_Filter):
    """Mean over a cube (S60F)."""

    kind: Literal["mean"]
    support_voxels: int = Field(ge=1)

    def library_arguments(self) -> dict[str, Any]:
        """The settings as mirp names them."""
        return {"filter_kernels": "mean", "mean_filter_kernel_size": self.support_voxels}


class LaplacianOfGaussian(_Filter):
    """Laplacian of Gaussian (L6PA)."""

    kind: Literal["laplacian_of_gaussian"]
    sigma_mm: float = Field(gt=0)
    truncate_sd: float = Field(default=4.0, gt=0)

    def library_arguments(self) -> dict[str, Any]:
        """The settings as mirp names them."""
        return {
            "filter_kernels": "laplacian_of_gaussian",
            "laplacian_of_gaussian_sigma": self.sigma_mm,
            "laplacian_of_gaussian_kernel_truncate": self.truncate_sd,
        }


class Laws(_Filter):
    """Laws kernels (JTXT), one letter and number for each direction, with or without the energy image (PQSD)."""

    kind: Literal["laws"]
    kernel: str = Field(pattern=r"^([LESWR][35]){2,3}$")
    energy: bool = True
    energy_distance_voxels: int = Field(default=7, ge=1)
    rotation_invariant: bool = True
    pooling: Pooling = "max"

    def library_arguments(self) -> dict[str, Any]:
        """The settings as mirp names them."""
        return {
            "filter_kernels": "laws",
            "laws_kernel": self.kernel,
            "laws_compute_energy": self.energy,
            "laws_delta": self.energy_distance_voxels,
            "laws_rotation_invariance": self.rotation_invariant,
            "laws_pooling_method": self.pooling,
        }

    def directions(self) -> int:
        """Number of directions that the filter states a kernel for."""
        return len(self.kernel) // 2


class Gabor(_Filter):
    """Modulus of the response to Gabor kernels (Q88H) in planes."""

    kind: Literal["gabor"]
    sigma_mm: float = Field(gt=0)
    wavelength_mm: float = Field(gt=0)
    aspect_ratio: float = Field(default=1.0, gt=0)
    angle_deg: float = 0.0
    angle_step_deg: float | None = Field(default=None, gt=0, le=180)
    """Where given, the responses of all angles are pooled."""
    all_planes: bool = False
    """Whether sagittal and coronal planes are filtered too, and pooled with the transverse ones."""
    pooling: Pooling = "mean"

    def library_arguments(self) -> dict[str, Any]:
        """The settings as mirp names them."""
        return {
            "filter_kernels": "gabor",
            "gabor_sigma": self.sigma_mm,
            "gabor_lambda": self.wavelength_mm,
            "gabor_gamma": self.aspect_ratio,
            "gabor_theta": self.angle_deg,
            "gabor_theta_step": self.angle_step_deg,
            "gabor_rotation_invariance": self.all_planes,
            "gabor_pooling_method": self.pooling,
            "gabor_response": "modulus",
        }


class SeparableWavelet(_Filter):
    """Undecimated separable wavelet (25BO)."""

    kind: Literal["separable_wavelet"]
    family: str = Field(pattern=r"^[a-z0-9.]+$")
    """As PyWavelets names it: haar, db3, coif1."""
    bands: str = Field(pattern=r"^[HL]{2,3}$")
    """High or low pass along each direction."""
    level: int = Field(default=1, ge=1)
    rotation_invariant: bool = True
    pooling: Pooling = "mean"

    def library_arguments(self) -> dict[str, Any]:
        """The settings as mirp names them."""
        return {
            "filter_kernels": "separable_wavelet",
            "separable_wavelet_families": self.family,
            "separable_wavelet_set": self.bands.lower(),
            "separable_wavelet_decomposition_level": self.level,
            "separable_wavelet_rotation_invariance": self.rotation_invariant,
            "separable_wavelet_pooling_method": self.pooling,
        }

    def directions(self) -> int:
        """Number of directions that the filter states a kernel for."""
        return len(self.bands)


class NonseparableWavelet(_Filter):
    """Real part of the response to a non-separable wavelet (LODD)."""

    kind: Literal["nonseparable_wavelet"]
    family: Literal["simoncelli", "shannon"]
    level: int = Field(default=1, ge=1)

    def library_arguments(self) -> dict[str, Any]:
        """The settings as mirp names them."""
        return {
            "filter_kernels": "nonseparable_wavelet",
            "nonseparable_wavelet_families": self.family,
            "nonseparable_wavelet_decomposition_level": self.level,
        }


ImageFilter = Annotated[
    MeanFilter | LaplacianOfGaussian | Laws | Gabor | SeparableWavelet | NonseparableWavelet,
    Field(discriminator="kind"),
]
