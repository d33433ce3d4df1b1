"""Time one pruned layer of a trained network alone: which part of a training step its convolution takes."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads.conv2d import Geometry, TrainingProblem
from sparsebench.suites.workloads.sparse_cnn.network import CONVOLUTIONS, KERNELS, folded, weight
from sparsebench.suites.workloads.sparse_cnn.training import Trained


class LayerProblem(TrainingProblem):
    """The convolution of a layer with both its gradients, on the activations that it meets in the network."""

    def __init__(self, case: Case, device: str, trained: Trained, x: Tensor, name: str) -> None:
        """Take a network, images (n, 1, 28, 28), and the name of a convolution in it."""
        self.case, self.device = case, device
        dtype = DTYPES[case.dtype]
        net = folded(trained.net).to(device, dtype)
        with torch.no_grad():
            met = x.to(device, dtype)
            for part, module in net.named_children():
                if part == name:
                    break
                met = module(met)
        stride = KERNELS[CONVOLUTIONS.index(name)][1]
        self.geometry: Geometry = {"stride": (stride, stride), "padding": (0, 0)}
        self.tensor, self.x = weight(net, name).detach().contiguous(), met.contiguous()
        with torch.no_grad():
            y = torch.nn.functional.conv2d(self.x, self.tensor, **self.geometry)
        generator = torch.Generator(device).manual_seed(case.seed + 1)
        self.g = torch.randn(y.shape, generator=generator, device=device).to(dtype)
