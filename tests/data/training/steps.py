"""Step models: a module whose outputs are the losses, as users write and export them; and the script that trains it."""

import torch
from networks import MlpD, MlpG, networks
from torch import nn

F = torch.nn.functional


def ones(x, value=1.0):
    return torch.full_like(x, value)


bce = nn.BCEWithLogitsLoss()
# loss name -> (loss_d(real, fake), loss_g(real, fake)), in the users' own spellings
SPELLINGS = {
    "bce": (lambda r, f: bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f)), lambda r, f: bce(f, ones(f))),
    "soft": (
        lambda r, f: 0.5 * (bce(r, ones(r, 0.9)) + bce(f, ones(f, 0.1))),
        lambda r, f: bce(f, torch.ones_like(f)),
    ),
    "minimax": (
        lambda r, f: -(torch.log(torch.sigmoid(r)) + torch.log(1 - torch.sigmoid(f))).mean(),
        lambda r, f: torch.log(1 - torch.sigmoid(f)).mean(),
    ),
    "softplus": (lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(), lambda r, f: F.softplus(-f).mean()),
    "lsgan": (
        lambda r, f: 0.5 * (F.mse_loss(r, torch.ones_like(r)) + (f**2).mean()),
        lambda r, f: 0.5 * ((f - 1) ** 2).mean(),
    ),
    "wgan": (lambda r, f: f.mean() - r.mean(), lambda r, f: -f.mean()),
    "hinge": (lambda r, f: F.relu(1 - r).mean() + F.relu(1 + f).mean(), lambda r, f: -f.mean()),
    "hingemin": (
        lambda r, f: (
            -torch.mean(torch.min(r - 1, torch.zeros_like(r))) - torch.mean(torch.min(-f - 1, torch.zeros_like(f)))
        ),
        lambda r, f: -torch.mean(f),
    ),
    "relativistic": (lambda r, f: bce(r - f, torch.ones_like(r)), lambda r, f: bce(f - r, torch.ones_like(f))),
    "average": (
        lambda r, f: (bce(r - f.mean(), torch.ones_like(r)) + bce(f - r.mean(), torch.zeros_like(f))) / 2,
        lambda r, f: (bce(r - f.mean(), torch.zeros_like(r)) + bce(f - r.mean(), torch.ones_like(f))) / 2,
    ),
}
NEEDS_REAL = ("relativistic", "average")


class Step(nn.Module):
    """forward(z, x) -> loss_d, loss_g."""

    def __init__(self, net, loss):
        super().__init__()
        self.generator, self.discriminator, *_ = networks(net)
        self.loss = loss

    def forward(self, z, x):
        loss_d, loss_g = SPELLINGS[self.loss]
        fake = self.generator(z)
        real, detached = self.discriminator(x), self.discriminator(fake.detach())
        again = self.discriminator(x) if self.loss in NEEDS_REAL else real
        return loss_d(real, detached), loss_g(again, self.discriminator(fake))

    def train_once(self, optimizers, data, clip):
        """One iteration, as a script would do it. The losses."""
        fake = self.generator(data["z"])
        loss_d = SPELLINGS[self.loss][0](self.discriminator(data["x"]), self.discriminator(fake.detach()))
        minimise(loss_d, optimizers["discriminator"], clip)
        real = self.discriminator(data["x"]) if self.loss in NEEDS_REAL else None
        loss_g = SPELLINGS[self.loss][1](real, self.discriminator(fake))
        minimise(loss_g, optimizers["generator"])
        return {"loss_d": loss_d, "loss_g": loss_g}


def minimise(loss, optimizer, clip=None):
    """zero_grad, backward, step; then the weights limited to [-clip, clip]."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if clip is not None:
        with torch.no_grad():
            for p in optimizer.param_groups[0]["params"]:
                p.clamp_(-clip, clip)


class CycleGan(nn.Module):
    """Two generators trained together, two discriminators, least squares, L1 cycle and identity terms."""

    def __init__(self):
        super().__init__()

        def generator():
            return nn.Sequential(nn.Linear(8, 10), nn.ReLU(), nn.Linear(10, 8))

        self.gen_ab, self.gen_ba = generator(), generator()
        self.dis_a, self.dis_b = MlpD(), MlpD()

    def generators(self, a, b):
        fake_b, fake_a = self.gen_ab(a), self.gen_ba(b)
        cycle = (self.gen_ba(fake_b) - a).abs().mean() + (self.gen_ab(fake_a) - b).abs().mean()
        same = (self.gen_ab(b) - b).abs().mean() + (self.gen_ba(a) - a).abs().mean()
        adversarial = ((self.dis_b(fake_b) - 1) ** 2).mean() + ((self.dis_a(fake_a) - 1) ** 2).mean()
        return adversarial + 10 * cycle + 5 * same

    @staticmethod
    def critic(d, real, fake):
        return 0.5 * (((d(real) - 1) ** 2).mean() + (d(fake.detach()) ** 2).mean())

    def forward(self, a, b):
        return (
            self.generators(a, b),
            self.critic(self.dis_a, a, self.gen_ba(b)),
            self.critic(self.dis_b, b, self.gen_ab(a)),
        )

    def train_once(self, optimizers, data, clip):
        a, b = data["a"], data["b"]
        loss_g = self.generators(a, b)
        minimise(loss_g, optimizers["generators"])
        loss_a = self.critic(self.dis_a, a, self.gen_ba(b))
        minimise(loss_a, optimizers["dis_a"])
        loss_b = self.critic(self.dis_b, b, self.gen_ab(a))
        minimise(loss_b, optimizers["dis_b"])
        return {"loss_g": loss_g, "loss_a": loss_a, "loss_b": loss_b}


class Pix2Pix(nn.Module):
    """A conditional discriminator on the pair, cross-entropy on its sigmoid (PyTorch's BCELoss), and L1."""

    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 10), nn.ELU(), nn.Linear(10, 8))
        self.discriminator = nn.Sequential(nn.Linear(16, 12), nn.LeakyReLU(0.2), nn.Linear(12, 1))

    def pair(self, a, b):
        return self.discriminator(torch.cat([a, b], 1))

    def losses(self, a, b, fake, *, critic):
        if critic:
            real, fakes = self.pair(a, b), self.pair(a, fake.detach())
            return 0.5 * (bce(real, torch.ones_like(real)) + bce(fakes, torch.zeros_like(fakes)))
        scores = self.pair(a, fake)
        return bce(scores, torch.ones_like(scores)) + 100 * torch.mean(torch.abs(fake - b))

    def forward(self, a, b):
        fake = self.generator(a)
        return self.losses(a, b, fake, critic=True), self.losses(a, b, fake, critic=False)

    def train_once(self, optimizers, data, clip):
        fake = self.generator(data["a"])
        loss_d = self.losses(data["a"], data["b"], fake, critic=True)
        minimise(loss_d, optimizers["discriminator"])
        loss_g = self.losses(data["a"], data["b"], fake, critic=False)
        minimise(loss_g, optimizers["generator"])
        return {"loss_d": loss_d, "loss_g": loss_g}


class Stripes(nn.Module):
    """What the exporters make of it: a softmax, a layer norm, an embedding of a condition, BCELoss after a sigmoid."""

    def __init__(self):
        super().__init__()
        self.generator = MlpG()
        self.discriminator = nn.ModuleDict(
            {
                "a": nn.Linear(8, 6),
                "norm": nn.LayerNorm(6),
                "label": nn.Embedding(3, 6),
                "b": nn.Linear(6, 1),
            }
        )

    def score(self, x, c):
        d = self.discriminator
        return torch.sigmoid(d["b"](F.gelu(d["norm"](d["a"](x))) * torch.softmax(d["label"](c), 1)))

    def critic(self, x, c, fake):
        r, f = self.score(x, c), self.score(fake.detach(), c)
        return F.binary_cross_entropy(r, torch.ones_like(r)) + F.binary_cross_entropy(f, torch.zeros_like(f))

    def forward(self, z, x, c):
        fake = self.generator(z)
        f = self.score(fake, c)
        return self.critic(x, c, fake), F.binary_cross_entropy(f, torch.ones_like(f))

    def train_once(self, optimizers, data, clip):
        fake = self.generator(data["z"])
        loss_d = self.critic(data["x"], data["c"], fake)
        minimise(loss_d, optimizers["discriminator"])
        f = self.score(fake, data["c"])
        loss_g = F.binary_cross_entropy(f, torch.ones_like(f))
        minimise(loss_g, optimizers["generator"])
        return {"loss_d": loss_d, "loss_g": loss_g}
