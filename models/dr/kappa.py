"""Quadratic weighted kappa, the agreement of graders on an ordered scale, and its loss."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.dr.network import GRADES


def disagreement() -> Tensor:
    """Weigh each pair of grades by the square of their distance."""
    grades = torch.arange(GRADES, dtype=torch.float32)
    return (grades[:, None] - grades) ** 2 / (GRADES - 1) ** 2


def confuse(true: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Count how often each grade was given for each: true grades down, given ones across."""
    confusion = np.zeros((GRADES, GRADES), int)
    np.add.at(confusion, (true, given), 1)
    return confusion


def kappa(confusion: np.ndarray) -> float:
    """Measure agreement beyond chance, quadratic weighted; rows are the true grades."""
    by_chance = np.outer(confusion.sum(1), confusion.sum(0)) / confusion.sum()
    weights = disagreement().numpy()
    return float(1 - (weights * confusion).sum() / (weights * by_chance).sum())


def kappa_loss(scores: Tensor, grades: Tensor) -> Tensor:
    """Take log(1 - kappa) of a batch, with probabilities in place of decisions.

    de la Torre, Puig and Valls, "Weighted kappa loss function for multi-class classification of
    ordinal data in deep learning" (Pattern Recognition Letters 2018).
    """
    chances = scores.softmax(1)
    weights = disagreement()
    observed = (weights[grades] * chances).sum()
    share = functional.one_hot(grades, GRADES).float().mean(0)
    expected = (share @ weights) @ chances.sum(0)
    return torch.log(observed + 1e-2) - torch.log(expected)
