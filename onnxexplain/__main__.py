"""``python -m onnxexplain``: the command line."""

from onnxexplain.cli import main

main()
