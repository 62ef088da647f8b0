"""Conservative Q-learning's losses, plain and slow: numpy, a state and a draw at a time."""

import math

import numpy as np


def forward(layers, row):
    """A perceptron's outputs for one row; `layers` are (weight [inputs, outputs], bias)."""
    for number, (weight, bias) in enumerate(layers):
        row = row @ weight + bias
        if number < len(layers) - 1:
            row = np.maximum(row, 0.0)
    return row


def soft_maximum(values, weights, temperature):
    """T·log Σ exp((Q + w)/T)."""
    return temperature * math.log(
        sum(math.exp((q + w) / temperature) for q, w in zip(values, weights, strict=True))
    )


def control_loss(critics, batch, target, controls, weights, *, weight, temperature):
    """Σ over critics of mean (Q − y)² + weight·(mean soft maximum − mean Q of the data)."""
    total, size = 0.0, len(batch["reward"])
    for layers in critics:
        for i in range(size):
            state = batch["observation"][i]
            data = forward(layers, np.concatenate([state, batch["control"][i]]))[0]
            drawn = [forward(layers, np.concatenate([state, u]))[0] for u in controls[i]]
            gap = soft_maximum(drawn, weights[i], temperature) - data
            total += ((data - target[i]) ** 2 + weight * gap) / size
    return total


def text_gap(q_values, log_prior, chosen, temperature):
    """Σ over members of the mean of T·log Σ_a p̂(a)·exp(Q(a)/T) − Q(chosen)."""
    total = 0.0
    for member in q_values:
        for row, priors, action in zip(member, log_prior, chosen, strict=True):
            inside = sum(
                math.exp(p) * math.exp(q / temperature)
                for q, p in zip(row, priors, strict=True)
                if p > -math.inf
            )
            total += (temperature * math.log(inside) - row[action]) / len(chosen)
    return total
