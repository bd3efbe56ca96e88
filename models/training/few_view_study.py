"""What an evaluation of few-view reconstruction runs: how much of each patient, which conditions, which grids."""

from dataclasses import dataclass

from models.training.few_view_scans import Condition


@dataclass(frozen=True)
class FewViewStudy:
    """The default takes about 20 minutes of one core with two test and two training patients.

    Raises
    ------
    ValueError
        If some views are no regular selection of the most views.
    """

    slices: int = 3
    """Of each test patient, for every method that is fast."""
    costly_slices: int = 1
    """The first of them, for what is slow: DDS, more steps, other photons, lesions, the published descent."""
    tuning_slices: int = 1
    """Of each training patient."""
    usual_views: int = 800
    """What a full turn has in practice; tells what part of the views is left."""
    views: tuple[int, ...] = (160, 80, 40, 20)
    reference_views: int = 80
    """Where photons and steps are varied, and what everything is judged by: a tenth."""
    fewer_views: int = 40
    photons: float = 1e5
    other_photons: tuple[float, ...] = (3e4, 1e6)
    more_steps: tuple[int, ...] = (2, 5, 10)
    """T beside 1."""
    tv_grid_mm: tuple[float, ...] = (60.0, 125.0, 250.0, 500.0, 1000.0, 2000.0)
    tv_iterations: int = 150
    ir_iterations: int = 100
    """Most of them, where the noise level is not reached."""
    prior_grid: tuple[int, ...] = (25, 50, 100, 200)
    """Depths that the prior alone is started from."""
    prior_steps: int = 50
    dds_grid: tuple[float, ...] = (1e3, 3e3, 1e4, 3e4, 1e5)
    dds_steps: int = 100
    dds_is_everywhere: bool = False
    """DDS also at the most and the fewest views."""
    published_iterations: int = 50
    published_slices: int = 1
    """Over all patients."""
    growth: tuple[int, ...] = (1, 2, 4)
    """Slices that are timed together; empty: not timed."""
    seed: int = 20_000
    """Of the noise of the test scans and the places of lesions."""
    tuning_seed: int = 30_000

    def __post_init__(self) -> None:
        wrong = [views for views in self.views if self.most_views % views]
        if wrong or self.reference_views not in self.views or self.fewer_views not in self.views:
            raise ValueError(f"{self.views} are not regular selections of views that hold the reference")

    @property
    def most_views(self) -> int:
        """What is simulated."""
        return max(self.views)

    def lesion_views(self) -> tuple[int, int]:
        """Where lesions are planted."""
        return self.reference_views, self.fewer_views

    def conditions(self) -> list[Condition]:
        """All of them, the most views first."""
        many = [Condition(views, self.photons) for views in sorted(self.views, reverse=True)]
        return many + [Condition(self.reference_views, photons) for photons in self.other_photons]

    def is_reference(self, condition: Condition) -> bool:
        """Whether it is the one that everything is judged by."""
        return condition == Condition(self.reference_views, self.photons)

    def part(self, views: int) -> str:
        """`1/10` of the usual views."""
        return f"1/{self.usual_views / views:g}"
