"""Perceptrons of two hidden layers, with gradients written out by hand, and their Adam.

Soft actor-critic on a CPU is some twenty matrix products and, under automatic differentiation, as
much again around them. Here every product writes into memory that is allocated once, the parameters
of several networks are one vector, so that an optimiser step is one call, and no gradient is
computed that nobody asked for. Networks are passed one after the other, not batched: what one of
them touches fits a core's second-level cache. Calls are few because each is dear: after a large
product neither Python nor torch are in the cache any more.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

_relu_gradient = torch.ops.aten.threshold_backward.grad_input
_fused_adam = torch.ops.aten._fused_adam_.default

Shapes = tuple[tuple[int, int], ...]


class Layer(NamedTuple):
    """Views into a vector of parameters or of gradients."""

    weight: Float[Tensor, "inputs outputs"]
    bias: Float[Tensor, " outputs"]


class Activations(NamedTuple):
    """Memory for a pass over some rows: what forward leaves there, backward uses up."""

    first: Float[Tensor, "rows hidden"]
    second: Float[Tensor, "rows hidden"]
    slope: Float[Tensor, "rows hidden"]


class ActivationBuffer:
    """Memory for passes of up to `rows` rows.

    `slope` lasts for no longer than a call; several may share it.
    """

    def __init__(
        self, rows: int, hidden: int, device: str = "cpu", *, slope: Tensor | None = None
    ) -> None:
        self._first, self._second = (torch.zeros(rows, hidden, device=device) for _ in range(2))
        self.slope = torch.zeros(rows, hidden, device=device) if slope is None else slope
        self._views: dict[int, Activations] = {}

    def of(self, rows: int) -> Activations:
        """The first `rows` rows; every call with the same number returns the same."""
        activations = self._views.get(rows)
        if activations is None:
            activations = self._views[rows] = Activations(
                self._first[:rows], self._second[:rows], self.slope[:rows]
            )
        return activations


class Perceptron:
    """inputs → hidden → hidden → outputs with rectified hidden units."""

    def __init__(
        self,
        shapes: Shapes,
        parameters: Float[Tensor, " numbers"],
        gradient: Float[Tensor, " numbers"],
    ) -> None:
        """Args: `shapes` are those of the layers' weights; the vectors are used in place."""
        self.layers = _views(parameters, shapes)
        self._gradient = _views(gradient, shapes)

    def initialise(self, generator: torch.Generator, unheeded: slice = slice(0)) -> None:
        """Draw weights and biases uniformly from ±1/√inputs, as torch's dense layers do.

        Inputs that are `unheeded` at first have weights of 0, and the others are drawn as if these
        were not there.
        """
        for number, (weight, bias) in enumerate(self.layers):
            heeded = torch.ones(len(weight), dtype=torch.bool)
            if number == 0:
                heeded[unheeded] = False
            count = int(heeded.sum())
            bound = 1.0 / math.sqrt(count)
            drawn = torch.zeros(weight.shape)
            drawn[heeded] = _uniform((count, weight.shape[1]), bound, generator)
            weight.copy_(drawn)
            bias.copy_(_uniform(bias.shape, bound, generator))

    def forward(
        self, inputs: Float[Tensor, "rows inputs"], activations: Activations
    ) -> Float[Tensor, "rows outputs"]:
        """The outputs; `activations` keeps what `backward` needs."""
        one, two, three = self.layers
        torch.addmm(one.bias, inputs, one.weight, out=activations.first).relu_()
        torch.addmm(two.bias, activations.first, two.weight, out=activations.second).relu_()
        return torch.addmm(three.bias, activations.second, three.weight)

    def backward(
        self,
        inputs: Float[Tensor, "rows inputs"],
        activations: Activations,
        d_output: Float[Tensor, "rows outputs"],
        *,
        more: bool = False,
    ) -> None:
        """Write the gradient of the parameters, given the loss's gradient in the outputs.

        `activations` are as `forward` left them; `more` adds the gradient to what is there.
        """
        first, second, slope = activations
        one, two, three = self._gradient
        _product(second.mT, d_output, three.weight, more)
        _total(d_output, three.bias, more)
        torch.mm(d_output, self.layers[2].weight.mT, out=slope)
        d_second = _relu_gradient(slope, second, 0, grad_input=second)
        _product(first.mT, d_second, two.weight, more)
        _total(d_second, two.bias, more)
        torch.mm(d_second, self.layers[1].weight.mT, out=slope)
        d_first = _relu_gradient(slope, first, 0, grad_input=first)
        _product(inputs.mT, d_first, one.weight, more)
        _total(d_first, one.bias, more)

    def input_gradient(
        self,
        activations: Activations,
        rows: Int[Tensor, " rows"],
        columns: slice,
        free: Activations,
    ) -> Float[Tensor, "rows columns"]:
        """∂output/∂input in some of the rows of the last pass, for a network of one output.

        Args:
            activations: as `forward` left it.
            rows: which rows of it.
            columns: which inputs.
            free: activations for as many rows, to be overwritten.
        """
        one, two, three = (layer.weight for layer in self.layers)
        active = torch.index_select(activations.second, 0, rows, out=free.first)
        d_second = _relu_gradient(three.mT.expand_as(active), active, 0, grad_input=active)
        torch.mm(d_second, two.mT, out=free.slope)
        active = torch.index_select(activations.first, 0, rows, out=free.first)
        d_first = _relu_gradient(free.slope, active, 0, grad_input=active)
        return d_first @ one[columns].mT


def _product(one: Tensor, other: Tensor, out: Tensor, more: bool) -> None:
    """Write the product of two matrices, or add it to what is there."""
    if more:
        out.addmm_(one, other)
    else:
        torch.mm(one, other, out=out)


def _total(rows: Tensor, out: Tensor, more: bool) -> None:
    """Write the sum of all rows, or add it to what is there."""
    if more:
        out.add_(rows.sum(0))
    else:
        torch.sum(rows, 0, out=out)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator).mul_(2 * bound).sub_(bound)


class Perceptrons:
    """Several networks whose parameters are one vector.

    Attributes:
        parameters: of all members; change it in place only.
        gradient: of the same shape; the members' `backward` writes it.
        members: the networks.
    """

    def __init__(self, members: int, sizes: tuple[int, int, int], device: str = "cpu") -> None:
        """Args: `sizes` are inputs, hidden, outputs of each member."""
        inputs, hidden, outputs = sizes
        each = (inputs + 1) * hidden + (hidden + 1) * hidden + (hidden + 1) * outputs
        self._each, self._shapes = each, ((inputs, hidden), (hidden, hidden), (hidden, outputs))
        self.parameters = torch.zeros(members * each, device=device)
        self.gradient = torch.zeros(members * each, device=device)
        pairs = zip(self.parameters.split(each), self.gradient.split(each), strict=True)
        self.members = [Perceptron(self._shapes, *pair) for pair in pairs]

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Parameters and gradient, as `VectorAdam` takes them."""
        return self.parameters, self.gradient

    def leaf(self) -> Tensor:
        """The parameters, sharing their memory, as a leaf of automatic differentiation."""
        return self.parameters.detach().requires_grad_()

    def apply(
        self, inputs: Float[Tensor, "rows inputs"], leaf: Tensor | None = None
    ) -> Float[Tensor, "members rows outputs"]:
        """Every member's outputs, to be differentiated in the parameters where `leaf` is given."""
        outputs = []
        for vector in (self.parameters if leaf is None else leaf).split(self._each):
            one, two, three = _views(vector, self._shapes)
            hidden = torch.addmm(one.bias, inputs, one.weight).relu()
            hidden = torch.addmm(two.bias, hidden, two.weight).relu()
            outputs.append(torch.addmm(three.bias, hidden, three.weight))
        return torch.stack(outputs)


class VectorAdam:
    """Adam (Kingma and Ba, arXiv 1412.6980) on a few vectors, one kernel call a step.

    The kernel is that of `torch.optim.Adam(fused=True)`, whose own Python costs more than the step.
    """

    def __init__(self, learning_rate: float, *pairs: tuple[Tensor, Tensor]) -> None:
        """Args: `pairs` are vectors of parameters with their gradients, both used in place."""
        self._learning_rate = learning_rate
        self._parameters, self._gradients = (list(part) for part in zip(*pairs, strict=True))
        self._first, self._second = (
            [torch.zeros_like(vector) for vector in self._parameters] for _ in range(2)
        )
        device = self._parameters[0].device
        self._steps = [torch.zeros((), device=device) for _ in self._parameters]

    def step(self) -> None:
        """Follow the gradients."""
        for steps in self._steps:
            steps.add_(1)
        _fused_adam(
            self._parameters, self._gradients, self._first, self._second, [], self._steps,
            lr=self._learning_rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8,
            amsgrad=False, maximize=False,
        )  # fmt: skip

    def state(self) -> dict[str, Tensor]:
        """Moments and steps, used in place; for a checkpoint."""
        parts = {"first": self._first, "second": self._second, "steps": self._steps}
        return {f"{k}.{i}": tensor for k, v in parts.items() for i, tensor in enumerate(v)}


def _views(vector: Tensor, shapes: Shapes) -> list[Layer]:
    layers, start = [], 0
    for inputs, outputs in shapes:
        middle, end = start + inputs * outputs, start + (inputs + 1) * outputs
        layers.append(Layer(vector[start:middle].view(inputs, outputs), vector[middle:end]))
        start = end
    return layers


def step_down(loss: Tensor, leaf: Tensor, networks: Perceptrons, adam: VectorAdam) -> None:
    """Follow the gradient of a loss that was computed with `leaf` as the networks' parameters."""
    networks.gradient.copy_(torch.autograd.grad(loss, leaf)[0])
    adam.step()
