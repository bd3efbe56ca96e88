"""Which of the reference values of the IBSI the features reach: counts for each configuration, and every miss.

python -m tests.benchmarks.ibsi_compliance [config ...]

Needs the phantoms and the tables below RTNODE_DATA/ibsi. A value passes if it lies within the tolerance of the
consensus; reference values are printed with three digits, so half a unit of the third is allowed on top.

References
----------
Zwanenburg et al., Radiology 2020, doi 10.1148/radiol.2020191145; Whybra et al., Radiology 2024,
doi 10.1148/radiol.231319, configurations in arXiv 2006.05470, chapter 4
"""

import sys
import time

from tests.models.ibsi import (
    CT_CONFIGURATIONS,
    DIGITAL_PHANTOM,
    FILTER_CONFIGURATIONS,
    compared,
    ct_phantom,
    digital_phantom,
    filter_references,
    ibsi_folder,
    references,
)


def main(*wanted: str) -> int:
    """Print a line for each configuration and each miss; returns the number of misses."""
    folder = ibsi_folder()
    if not folder.is_dir():
        sys.stdout.write(f"there is no {folder}: RTNODE_DATA names the folder of real data\n")
        return 0
    jobs = [("dig. phantom", digital_phantom, DIGITAL_PHANTOM)]
    jobs += [(f"config. {name}", lambda: ct_phantom(folder), setting) for name, setting in CT_CONFIGURATIONS.items()]
    jobs += [(name, lambda: ct_phantom(folder), setting) for name, setting in FILTER_CONFIGURATIONS.items()]
    passed = total = 0
    for name, phantom, setting in jobs:
        if wanted and name not in wanted:
            continue
        begin = time.perf_counter()
        known = filter_references(folder, name) if name in FILTER_CONFIGURATIONS else references(folder, name)
        results = compared(phantom(), setting, known)
        reached = sum(one.passed for one in results)
        passed, total = passed + reached, total + len(results)
        sys.stdout.write(f"{name:<14}{reached:>5} of {len(results):>4}   {time.perf_counter() - begin:6.1f} s\n")
        for one in results:
            if not one.passed:
                sys.stdout.write(f"    {one}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{'all':<14}{passed:>5} of {total:>4}\n")
    return total - passed


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
