"""Coordinates in which what a delta's directions read is uncorrelated within classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from snow.delta.discriminants import scatter_root

MOST = 8192
"""So many inputs at most: the coordinates take a matrix of as many rows and columns."""


class Whitening(nn.Module):
    """A linear change of inputs behind which weights learn: of those that are taken when learning begins.

    Gradient descent first follows the inputs that vary most, and these say least about classes that are much alike.
    Where inputs vary alike and are uncorrelated within classes, it follows what tells classes apart (LeCun et al.,
    Efficient BackProp, 1998, section 4.3). Inputs that are taken later, because the choice of channels still changes,
    pass as they are. What is served holds weights for the inputs themselves, see `folded`.

    Args:
        inputs: how many are taken at a time.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.columns: Tensor
        self.root: Tensor
        self.register_buffer("columns", torch.arange(inputs))
        self.register_buffer("root", torch.eye(inputs))
        """L of the covariance within classes, L L', inverted and transposed: what inputs are multiplied by."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, slots), zero where a slot is not taken; returns as many."""
        return x.index_copy(1, self.columns, (x[:, self.columns] @ self.root).to(x))

    @torch.no_grad()
    def start(self, inputs: Tensor, label: Tensor, columns: Tensor, weights: Tensor) -> Tensor:
        """Takes the coordinates from labelled pictures, as `discriminants` does.

        Args:
            inputs: (n, D), of the slots at `columns` (D,).
            weights: (m, D) for them.

        Returns:
            Those weights as they are behind this: the answers stay what they were.
        """
        self.columns.copy_(columns)
        root = scatter_root(inputs, label)
        self.root.copy_(torch.linalg.solve_triangular(root.T, torch.eye(len(root)).to(root), upper=True))
        return weights @ root

    @torch.no_grad()
    def folded(self, weights: Tensor) -> Tensor:
        """(m, slots) behind this -> (m, slots) without it."""
        return weights.index_copy(1, self.columns, weights[:, self.columns] @ self.root.T)
