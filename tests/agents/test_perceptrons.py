import torch
from torch import nn

from cepcli.agents.perceptrons import ActivationBuffer, Perceptrons, VectorAdam

SIZES = (5, 16, 3)


def built(members=2, sizes=SIZES):
    networks = Perceptrons(members, sizes)
    for network in networks.members:
        network.initialise(torch.Generator().manual_seed(len(networks.parameters)))
    return networks


def as_module(network):
    """The same network for automatic differentiation."""
    dense = [nn.Linear(*layer.weight.shape) for layer in network.layers]
    for module, layer in zip(dense, network.layers, strict=True):
        module.weight.data = layer.weight.T.clone()
        module.bias.data = layer.bias.clone()
    return nn.Sequential(dense[0], nn.ReLU(), dense[1], nn.ReLU(), dense[2]), dense


def test_gradients_are_those_of_automatic_differentiation():
    networks = built()
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(7, 5, generator=generator)
    slopes = torch.randn(7, 3, generator=generator)
    expected = []
    for network in networks.members:
        module, dense = as_module(network)
        activations = ActivationBuffer(9, 16).of(7)
        output = network.forward(inputs, activations)
        torch.testing.assert_close(output, module(inputs))
        network.backward(inputs, activations, slopes)
        (module(inputs) * slopes).sum().backward()
        for part in dense:
            expected += [part.weight.grad.T.flatten(), part.bias.grad]
    torch.testing.assert_close(networks.gradient, torch.cat(expected))


def test_input_gradient_is_that_of_the_rows_asked_for():
    network = built(sizes=(5, 16, 1)).members[1]
    module, _ = as_module(network)
    inputs = torch.randn(6, 5, generator=torch.Generator().manual_seed(2), requires_grad=True)
    activations = ActivationBuffer(6, 16).of(6)
    network.forward(inputs.detach(), activations)
    rows = torch.tensor([4, 0, 5])
    found = network.input_gradient(activations, rows, slice(3, None), ActivationBuffer(6, 16).of(3))
    (expected,) = torch.autograd.grad(module(inputs).sum(), inputs)
    torch.testing.assert_close(found, expected[rows, 3:])


def test_no_rows_have_no_input_gradient():
    network = built(sizes=(5, 16, 1)).members[0]
    buffer = ActivationBuffer(4, 16)
    network.forward(torch.randn(4, 5), buffer.of(4))
    none = torch.zeros(0, dtype=torch.int64)
    found = network.input_gradient(buffer.of(4), none, slice(3, None), buffer.of(0))
    assert found.shape == (0, 2)


def test_adam_is_torchs():
    networks, rate = built(), 3e-4
    scalar, scalar_gradient = torch.zeros(1), torch.zeros(1)
    ours = VectorAdam(rate, (networks.parameters, networks.gradient), (scalar, scalar_gradient))
    theirs = [networks.parameters.clone(), scalar.clone()]
    for vector in theirs:
        vector.grad = torch.zeros_like(vector)
    reference = torch.optim.Adam(theirs, lr=rate)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        networks.gradient.normal_(generator=generator)
        scalar_gradient.normal_(generator=generator)
        theirs[0].grad.copy_(networks.gradient)
        theirs[1].grad.copy_(scalar_gradient)
        ours.step()
        reference.step()
    torch.testing.assert_close(networks.parameters, theirs[0])
    torch.testing.assert_close(scalar, theirs[1])
    assert ours.state()["steps.0"] == 4
