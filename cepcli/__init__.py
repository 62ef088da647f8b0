"""cep: a large language model as an affordable action prior for reinforcement learning."""

__version__ = "0.1.0"
