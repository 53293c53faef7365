"""A GAN of two matrices in NumPy, which trains as any trainee does."""

import hashlib

import numpy as np

from mgc.training.errors import TrainingError
from mgc.training.trainee import TraineeInput

F32 = np.dtype(np.float32)


class Toy:
    """G(z) = z W, D(x) = x v; least-squares losses, momentum; `batches` discriminator steps an iteration."""

    losses = ("loss_d", "loss_g")

    def __init__(self, features=6, noise=3, batch=4, batches=1, lr=0.01, numerics="quantized"):
        self.batches = batches
        self.inputs = (
            TraineeInput("z", (batch, noise), F32, "noise"),
            TraineeInput("x", (batch, features), F32),
        )
        self.identity = {"program": hashlib.sha256(f"{features} {noise} {batch}".encode()).hexdigest()}
        self.identity |= {"numerics": numerics}
        self._lr = F32.type(lr)
        start = np.random.default_rng(0)
        self._state = {
            "G.weight": start.standard_normal((noise, features)).astype(F32) / 2,
            "D.weight": start.standard_normal((features, 1)).astype(F32) / 2,
            "G.weight.momentum": np.zeros((noise, features), F32),
            "D.weight.momentum": np.zeros((features, 1), F32),
            "count": np.zeros((), np.int64),
        }

    def step(self, batches):
        assert len(batches) == self.batches
        state = self._state
        with np.errstate(all="ignore"):
            for feeds in batches:
                assert all(feeds[i.name].shape == i.shape and feeds[i.name].dtype == i.dtype for i in self.inputs)
                z, x = feeds["z"], feeds["x"]
                fake = z @ state["G.weight"]
                real_s, fake_s = x @ state["D.weight"], fake @ state["D.weight"]
                loss_d = np.mean((real_s - 1) ** 2) + np.mean(fake_s**2)
                self._update("D.weight", 2 * (x.T @ (real_s - 1) + fake.T @ fake_s) / len(x))
            scores = fake @ state["D.weight"]
            loss_g = np.mean((scores - 1) ** 2)
            self._update("G.weight", 2 * z.T @ ((scores - 1) @ state["D.weight"].T) / len(x))
            state["count"] = state["count"] + 1
        return {"loss_d": float(loss_d), "loss_g": float(loss_g)}

    def _update(self, name, gradient):
        moment = F32.type(0.9) * self._state[f"{name}.momentum"] + gradient
        self._state[f"{name}.momentum"] = moment
        self._state[name] = self._state[name] - self._lr * moment

    carried = ()

    def begin(self, first):
        """Nothing is carried."""

    def state(self):
        return {name: value.copy() for name, value in self._state.items()}

    def restore(self, state):
        if {n: (a.shape, a.dtype) for n, a in state.items()} != {n: (a.shape, a.dtype) for n, a in self._state.items()}:
            raise TrainingError("the checkpoint's states are not those of this program")
        self._state = {name: np.array(value) for name, value in state.items()}
