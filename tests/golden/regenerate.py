"""Write the golden numbers anew from their source: python -m tests.golden.regenerate (needs RTNODE_DATA/ibsi).

None of them is what this project computed.
"""

import csv

from tests.models.ibsi import GOLDEN, ibsi_folder, references


def main() -> None:
    """Write the reference values of the digital phantom."""
    with GOLDEN.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["tag", "aggregation", "value", "tolerance"])
        for one in references(ibsi_folder(), "dig. phantom"):
            writer.writerow([one.tag, one.aggregation, f"{one.value:g}", f"{one.tolerance:g}"])


if __name__ == "__main__":
    main()
