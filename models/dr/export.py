"""Write trained weights as the ONNX file that ships, with all that a user of it must know.

`python -m models.dr.export focused.npz models/dr640.onnx`
"""

import argparse
from pathlib import Path

import onnxexplain as ox

NOTE = (
    "Trained on synthetic retinas only, and taught to look at their lesions (models/dr640.md). "
    "Not a medical device: no grade of a real photograph may rest on it."
)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    ox.dr_network(options.weights, options.out, metadata={"onnxexplain.note": NOTE})


if __name__ == "__main__":
    main()
