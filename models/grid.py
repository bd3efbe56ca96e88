"""What the models ask of the grid of an image."""

_SQUARE_WITHIN = 0.01


def has_square_pixels(spacing_zyx_mm: tuple[float, float, float]) -> bool:
    """Whether rows and columns have the same distance, to a hundredth: projection and filters know no other pixels."""
    _, row_mm, column_mm = spacing_zyx_mm
    return abs(row_mm - column_mm) <= _SQUARE_WITHIN * row_mm
