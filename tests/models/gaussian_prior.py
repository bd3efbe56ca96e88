import torch
from torch import Tensor

from models.diffusion import NoiseSchedule
from models.latent_reconstruction import Projector


class GaussianPrior:
    """The denoiser of images that are N(mean, covariance) over their pixels, row by row: the exact posterior mean."""

    def __init__(self, mean: Tensor, covariance: Tensor, schedule: NoiseSchedule) -> None:
        self.mean, self.covariance, self._schedule = mean, covariance, schedule

    def posterior_mean(self, x_t: Tensor, time: int) -> Tensor:
        """E[x_0 | x_t] = m + a C (a^2 C + b^2)^-1 (x_t - a m) with x_t = a x_0 + b eps."""
        a, b = self._schedule.signal(time), self._schedule.noise(time)
        identity = torch.eye(len(self.mean), dtype=self.mean.dtype)
        gain = a * self.covariance @ torch.linalg.inv(a * a * self.covariance + b * b * identity)
        pixels: Tensor = self.mean + (x_t.flatten(1) - a * self.mean) @ gain.T
        return pixels.view(x_t.shape)

    def __call__(self, x_t: Tensor, times: Tensor) -> Tensor:
        time = int(times[0])
        x_0 = self.posterior_mean(x_t, time)
        return (x_t - self._schedule.signal(time) * x_0) / self._schedule.noise(time)


class DenseProjector:
    """A matrix (views, detectors, pixels) of any numbers."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def forward(self, image: Tensor) -> Tensor:
        return torch.einsum("vdp,bp->bvd", self.matrix, image.flatten(1))


class DividedDenseProjector(DenseProjector):
    """One that computes single views, and remembers which were asked for."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__(matrix)
        self.asked: list[list[int]] = []

    def of_views(self, views: range | list[int]) -> Projector:
        self.asked.append(list(views))
        return DenseProjector(self.matrix[list(views)])


def smooth_covariance(side: int, sd: float, length: float) -> Tensor:
    """Of a square image: sd^2 exp(-distance^2 / (2 length^2)), and a little of each pixel's own; float64."""
    row, column = (
        axis.flatten().double() for axis in torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    )
    squares = (row[:, None] - row) ** 2 + (column[:, None] - column) ** 2
    return sd * sd * (torch.exp(-squares / (2.0 * length * length)) + 0.05 * torch.eye(side * side))
