"""Eight virtual devices, checked shapes, and no silent rank promotion; set before jax is imported."""

import os

os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
install_import_hook("lightxling", "beartype.beartype")


@pytest.fixture(scope="session")
def mesh():
    """Eight devices as data 8 x model 1."""
    from lightxling.config import MeshConfig
    from lightxling.train.sharding import make_mesh

    return make_mesh(MeshConfig(data=8, model=1), batch_size=8)
