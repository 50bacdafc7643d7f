"""From a score down to the elements it comes from, node by node: the walk of CNN fixations.

What travels is not a derivative but, for every tensor, the list of its elements that count.
"""

from onnxexplain.methods.fixations.marks import Marks
from onnxexplain.methods.fixations.walk import fixate

__all__ = ["Marks", "fixate"]
