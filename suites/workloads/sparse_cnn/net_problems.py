"""Time one trained network as it stands in every representation: inference, and a step of training."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsebench.representations.base import Representation, Storage
from sparsebench.representations.modules import SparseModule, convert
from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads.problem import Action, Problem, Quality
from sparsebench.suites.workloads.sparse_cnn.network import PRUNABLE, channels_last, folded, last, weight
from sparsebench.suites.workloads.sparse_cnn.train_problem import METRIC
from sparsebench.suites.workloads.sparse_cnn.training import Trained

LARGEST = "conv3"
"""The layer that stands for the network where a single tensor is asked for: two thirds of the weights."""
STAYS_DENSE: tuple[str, ...] = ("conv1", "classifier")
"""What training leaves dense stays dense in a converted network too: nobody would store it sparsely."""


class NetProblem(Problem):
    """Logits of a batch of images, by the folded network with its pruned convolutions in a representation."""

    operation = "conv2d"
    product = True

    def __init__(self, case: Case, device: str, trained: Trained, x: Tensor, y: Tensor) -> None:
        """Take a network and images (n, 1, 28, 28) of classes (n,)."""
        self.case, self.device, self.trained = case, device, trained
        dtype = DTYPES[case.dtype]
        self.net = folded(trained.net).to(device, dtype)
        self.x, self.y = x.to(device, dtype).contiguous(), y.to(device)
        self.tensor = weight(self.net, LARGEST).detach()

    def converted(self, cls: type[Representation]) -> nn.Module:
        """Return the network with its pruned convolutions stored as trained; a layer left with nothing is known."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="nothing is stored of")  # the artifact says so once
            return convert(self.net, cls, skip=STAYS_DENSE)

    def storage(self, cls: type[Representation], built: Representation) -> Storage:
        """Return the bytes of the whole network, biases and dense layers among the values; `built` is one weight."""
        net = self.converted(cls)
        held = [part for part in net.modules() if isinstance(part, SparseModule)]
        biases = sum(_bytes(part.bias) for part in held if part.bias is not None)
        dense = sum(_bytes(part) for name in STAYS_DENSE for part in net.get_submodule(name).parameters())
        stored = [part.representation.storage() for part in held]
        return Storage(
            value_bytes=biases + dense + sum(one.value_bytes for one in stored),
            index_bytes=sum(one.index_bytes for one in stored),
        )

    def counts(self) -> tuple[int, int]:
        """Return how many numbers of the whole network are not zero, and how many there are."""
        parts = list(self.net.parameters())
        return sum(int(torch.count_nonzero(part)) for part in parts), sum(part.numel() for part in parts)

    def references(self) -> Mapping[str, Action]:
        """Return the dense network in contiguous and in channels-last order."""
        net = channels_last(copy.deepcopy(self.net))
        return {
            "dense contiguous": self._run(self.net, self.x),
            "dense channels-last": self._run(net, last(self.x)),
        }

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return the same with the converted network; `built` is one of its weights, and is not used."""
        return self._run(self.converted(cls), self.x)

    def _run(self, net: nn.Module, x: Tensor) -> Action:
        def run() -> Tensor:
            with torch.no_grad():
                logits: Tensor = net(x)
            return logits

        return run

    def exact(self) -> tuple[Tensor, ...]:
        """Compute what is asked for in float64."""
        return self.outputs(self._run(copy.deepcopy(self.net).double(), self.x.double())())

    def turned(self) -> tuple[float, ...]:
        """Turn the images; what the network makes of that has to be computed anew."""
        self.x.neg_()
        return ()

    def useful_flops(self) -> float:
        """Return 2 · Σ non-zero weights · places, over all layers."""
        total, places = 0, {"conv1": 12**2, "conv2": 5**2, "conv3": 3**2, "classifier": 1}
        for name, count in places.items():
            total += count * int(torch.count_nonzero(weight(self.net, name)))
        return 2.0 * len(self.x) * total

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the accuracy on all test images: the same in every representation that is right."""
        return Quality(value=self.trained.accuracy[-1], metric=METRIC)


class StepProblem(NetProblem):
    """Loss and all gradients: of stored weights at their places, of biases, and of the dense layers.

    Batch normalisation is folded away, and no weight is moved: a step of fine-tuning, less the optimiser.
    """

    operation = "train"

    def converted(self, cls: type[Representation]) -> nn.Module:
        """Return the converted network with gradients asked for."""
        return super().converted(cls).requires_grad_(True)

    def native_parts(self) -> tuple[str, ...]:
        """Return the convolution and its gradients."""
        return ("conv2d", "conv2d_input", "conv2d_values")

    def _run(self, net: nn.Module, x: Tensor) -> Action:
        leaves = dict(net.requires_grad_(True).named_parameters())

        def run() -> tuple[nn.Module, Tensor, dict[str, Tensor]]:
            logits = net(x)
            loss = nn.functional.cross_entropy(logits, self.y)
            gradients = torch.autograd.grad(loss, list(leaves.values()))
            return net, logits.detach(), dict(zip(leaves, gradients, strict=True))

        return run

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the logits and, layer by layer, the gradients of weight and bias; of a pruned one at its non-zeros."""
        net, logits, gradients = result
        found = [logits]
        for name in ("conv1", *PRUNABLE, "classifier"):
            part = net.get_submodule(name)
            if isinstance(part, SparseModule):
                of_weight = part.representation.with_values(gradients[f"{name}.values"]).to_dense()
            else:
                of_weight = gradients[f"{name}.weight"]
            if name in PRUNABLE:
                of_weight = torch.where(weight(self.net, name) != 0, of_weight.reshape(weight(self.net, name).shape), 0)
            found += [of_weight, gradients[f"{name}.bias"]]
        return tuple(found)

    def held(self, result: Any) -> tuple[Tensor, ...]:
        """Return the logits and the gradients as they are laid out."""
        return result[1], *result[2].values()

    def useful_flops(self) -> float:
        """Return three passes' worth."""
        return 3.0 * super().useful_flops()


def _bytes(part: Tensor) -> int:
    return part.numel() * part.element_size()
