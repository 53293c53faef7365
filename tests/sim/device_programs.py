"""Devices for tests, and programs that have them."""

from __future__ import annotations

import random
from dataclasses import asdict, replace

from mgc.isa.device.errors import DeviceModel
from mgc.isa.program import Program

IDEAL = DeviceModel(
    on_us=500.0,
    off_us=0.5,
    write_sigma=(0.0,),
    stuck_on=0.0,
    stuck_off=0.0,
    stuck_repair=False,
    read_noise_levels=0.0,
    drift_exponent=0.0,
    drift_exponent_sigma=0.0,
    drift_s=1.0,
    update="write-verify",
    pulse_levels=500,
    pulse_asymmetry=0.0,
    pulse_noise=0.0,
    pulse_spread=0.0,
)
"""A device without any error."""

POOR = replace(
    IDEAL,
    write_sigma=(0.01, 0.02),
    stuck_on=0.01,
    stuck_off=0.02,
    stuck_repair=True,
    read_noise_levels=0.3,
    drift_exponent=0.01,
    drift_exponent_sigma=0.005,
    drift_s=1e4,
    pulse_asymmetry=0.2,
    pulse_noise=1.0,
    pulse_spread=0.3,
)
"""A device with every error there is."""


def random_device(rng: random.Random) -> DeviceModel:
    """A device with some of the errors."""
    errors = (
        "write_sigma",
        "stuck_on",
        "stuck_off",
        "stuck_repair",
        "read_noise_levels",
        "drift_exponent",
        "drift_s",
        "pulse_noise",
    )
    chosen = {name: getattr(POOR, name) for name in errors if rng.random() < 0.5}
    return replace(IDEAL, off_us=rng.choice([0.0, 0.5, 120.0]), update=rng.choice(["write-verify", "pulses"]), **chosen)


def on_devices(program: Program, device: DeviceModel) -> Program:
    """The program for a target with these devices."""
    return replace(program, target={**program.target, "device": asdict(device)})
