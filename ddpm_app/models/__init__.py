"""From a name, a folder or a Hub repository to a Model: a denoiser, its chain and its image shape."""

from ddpm_app.models.catalogue import (
    BUNDLED,
    DEFAULT_MODEL,
    HUB_MODELS,
    available_models,
    load_model,
    read_network,
    stamp,
)
from ddpm_app.models.model import Measured, Model, Precision, resolve_device, resolve_devices

__all__ = [
    "BUNDLED",
    "DEFAULT_MODEL",
    "HUB_MODELS",
    "Measured",
    "Model",
    "Precision",
    "available_models",
    "load_model",
    "read_network",
    "resolve_device",
    "resolve_devices",
    "stamp",
]
