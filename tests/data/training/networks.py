"""The networks of the training tests, in PyTorch; small, but with everything that is easy to get wrong."""

import torch
from torch import nn

F = torch.nn.functional
BATCH = 4


class MlpG(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 12), nn.LeakyReLU(0.2), nn.Linear(12, 8), nn.Tanh())

    def forward(self, z):
        return self.net(z)


class MlpD(nn.Module):
    def __init__(self, sigmoid=False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 12), nn.LeakyReLU(0.2), nn.Linear(12, 1))
        self.sigmoid = sigmoid

    def forward(self, x):
        y = self.net(x)
        return torch.sigmoid(y) if self.sigmoid else y


class DcG(nn.Module):
    """Like DCGAN's generator; the first convolution has a bias, which the normalisation after it cancels."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.ConvTranspose2d(6, 8, 4, 1, 0),
            nn.BatchNorm2d(8),
            nn.ReLU(True),
            nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4, momentum=0.3),
            nn.ReLU(True),
            nn.ConvTranspose2d(4, 1, 4, 2, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.main(z)


class DcD(nn.Module):
    """Two normalisations of the same width: a fresh one's weight, bias and statistics are all equal."""

    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(1, 8, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 8, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 8, 3, 1, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 1, 4, 1, 0, bias=False),
        )

    def forward(self, x):
        return self.main(x).view(-1)


class OddG(nn.Module):
    """Kernel 5, stride 3, output_padding, groups, dilation, a skip connection, upsampling, ELU."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(5, 6 * 2 * 2)
        self.up = nn.ConvTranspose2d(6, 6, 5, 3, 1, output_padding=2, groups=2)
        self.mid = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3)
        self.last = nn.Conv2d(6, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, z):
        x = F.elu(self.fc(z).view(-1, 6, 2, 2), 0.7)
        x = F.elu(self.up(x))
        x = x + F.softplus(self.mid(x))
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return torch.sigmoid(self.last(x)) * 2 - 1


class OddD(nn.Module):
    """Asymmetric strides and padding, average and maximum pooling, softplus, a concatenation, a Linear on rank 3."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(2, 6, 5, stride=3, padding=2)
        self.b = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.act = nn.PReLU()
        self.norm = nn.InstanceNorm2d(6, affine=True)
        self.token = nn.Linear(6, 4)
        self.out = nn.Linear(4 * 9 + 2, 1)

    def forward(self, x):
        h = self.act(self.a(F.pad(x, (1, 0, 0, 1))))
        h = self.act(self.norm(self.b(h))) + h
        h = F.avg_pool2d(h, 3, stride=2, padding=1, count_include_pad=False)
        t = F.softplus(self.token(h.flatten(2).transpose(1, 2)))
        top = F.max_pool2d(x, 4, stride=3).amax((2, 3))
        return self.out(torch.cat([t.flatten(1), top], 1))


class TiedD(nn.Module):
    """A layer whose weight is read a second time, transposed: exporters may store a copy of it."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 6, bias=False)
        self.out = nn.Linear(8, 1)

    def forward(self, x):
        return self.out(F.linear(F.softplus(self.embed(x)), self.embed.weight.t()))


class SeparableD(nn.Module):
    """A depthwise convolution, whose bias the normalisation after the next one cancels, and an attention, whose
    softmax cancels the bias of its keys.
    """

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 4, 4)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.pointwise = nn.Conv2d(4, 6, 1)
        self.norm = nn.BatchNorm2d(6)
        self.query, self.key, self.value = (nn.Conv2d(6, n, 1) for n in (3, 3, 6))
        self.out = nn.Linear(6, 1)

    def forward(self, x):
        h = F.leaky_relu(self.first(x), 0.2)
        h = F.leaky_relu(self.norm(self.pointwise(self.depthwise(h))), 0.2)
        q, k, v = (f(h).flatten(2) for f in (self.query, self.key, self.value))
        h = h.flatten(2) + v @ torch.softmax(q.transpose(1, 2) @ k, -1).transpose(1, 2)
        return self.out(h.mean(2))


def networks(name):
    """G, D, the shape of one noise vector and of one sample."""
    return {
        "mlp": lambda: (MlpG(), MlpD(), (5,), (8,)),
        "mlpsig": lambda: (MlpG(), MlpD(True), (5,), (8,)),
        "dcgan": lambda: (DcG(), DcD(), (6, 1, 1), (1, 16, 16)),
        "odd": lambda: (OddG(), OddD(), (5,), (2, 16, 16)),
        "tied": lambda: (MlpG(), TiedD(), (5,), (8,)),
        "separable": lambda: (DcG(), SeparableD(), (6, 1, 1), (1, 16, 16)),
    }[name]()
