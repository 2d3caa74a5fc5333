"""The ProbVLM adapter and one step of its training in PyTorch, for `peer.py` and `training.py`."""

import torch
from torch import nn

SEED = 0


class ProbVlmAdapter(nn.Module):
    """ProbVLM's network for one modality (arXiv 2307.00398 and its published code).

    `[N, D]` -> mean, 1/alpha and beta of a generalised Gaussian per dimension, each `[N, D]`.
    """

    def __init__(self, dim: int, hidden: int = 256, dropout: float = 0.1):
        super().__init__()
        self.mod = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, dim),
        )
        self.block_mu = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.block_alpha = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.block_beta = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())

    def forward(self, embeddings):
        hidden = embeddings + self.mod(embeddings)
        return self.block_mu(hidden), self.block_alpha(hidden), self.block_beta(hidden)


def generalised_gaussian_nll(mean, inverse_alpha, beta, target):
    """Mean negative log-likelihood without the constant log 2: (|r|/alpha)^beta - log(beta/alpha) + lgamma(1/beta).

    The offsets and the clamp are those of the published training code.
    """
    inverse_alpha = inverse_alpha + 1e-4
    beta = beta + 1e-4
    residual = ((mean - target).abs() * inverse_alpha).pow(beta).clamp(1e-4, 1e3)
    return (residual - inverse_alpha.log() - beta.log() + torch.lgamma(1 / beta)).mean()


def adapter_training_step(text_embeddings: torch.Tensor, hidden: int = 256):
    """A function that takes one Adam step of the adapter on the given rows `[N, D]`."""
    torch.manual_seed(SEED)
    adapter = ProbVlmAdapter(text_embeddings.shape[1], hidden).train()
    optimizer = torch.optim.Adam(adapter.parameters(), lr=1e-4)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = generalised_gaussian_nll(*adapter(text_embeddings), text_embeddings)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
