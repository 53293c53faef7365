# SPDX-License-Identifier: Apache-2.0
"""Frechet distance between sets of images, by the features of a classifier of Fashion-MNIST.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule ..." (arXiv 1706.08500) with the classifier of
`benchmarks.quality.classifier` in place of Inception, so figures compare with each other only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

FEATURES = Path(__file__).parent / "features.onnx"


@dataclass(frozen=True)
class Gaussian:
    """Mean [F] and covariance [F, F] (float64) of a set of features."""

    mean: np.ndarray
    covariance: np.ndarray


def gaussian(features: np.ndarray) -> Gaussian:
    """Of features [N, F]. ValueError for fewer samples than two, or values that are not finite."""
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"features of shape {features.shape}: a covariance needs [N, F] with N of 2 or more")
    if not np.isfinite(features).all():
        raise ValueError("a feature is not finite")
    exact = features.astype(np.float64)
    return Gaussian(exact.mean(0), np.cov(exact, rowvar=False).reshape(exact.shape[1], exact.shape[1]))


def distance(a: Gaussian, b: Gaussian) -> float:
    """|mean a - mean b|^2 + tr(A + B - 2 (A B)^(1/2)), of covariances A and B.

    tr((A B)^(1/2)) is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is symmetric.
    """
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(values.clip(min=0.0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0.0)).sum()
    apart = a.mean - b.mean
    return float(apart @ apart + np.trace(a.covariance) + np.trace(b.covariance) - 2.0 * cross)


def features_of(images: np.ndarray, threads: int = 1, path: Path = FEATURES) -> np.ndarray:
    """Features [N, F] of images [N, 1, 32, 32] in -1..1."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"image": images[i : i + 500]})[0] for i in range(0, len(images), 500)]
    return np.concatenate([np.asarray(part) for part in parts])
