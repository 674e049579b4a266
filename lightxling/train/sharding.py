"""Where arrays live: the mesh ("data", "model"), the split of parameters, batches on devices."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.tree_util import DictKey

from lightxling.base.errors import UserError
from lightxling.config.schema import MeshConfig


def make_mesh(
    config: MeshConfig,
    *,
    batch_size: int,
    micro_batch: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """The mesh of these devices, by default of all that there are.

    Raises:
      UserError: the mesh does not fit the devices, or the batch or its parts do not divide over
        them.
    """
    devices = jax.devices() if devices is None else devices
    data = config.data or len(devices) // config.model
    if data * config.model != len(devices) or config.model < 1:
        raise UserError(
            f"mesh.data={config.data} x mesh.model={config.model} does not fit {len(devices)} "
            f"{devices[0].platform} device(s); their product must be {len(devices)}"
        )
    if batch_size % data:
        raise UserError(
            f"train.batch_size={batch_size} does not divide over mesh.data={data} devices; "
            f"try {max(batch_size // data, 1) * data} or {-(-batch_size // data) * data}"
        )
    if micro_batch % data:
        fits = [n for n in range(data, batch_size + 1, data) if batch_size % n == 0]
        near = min(fits, key=lambda n: abs(n - micro_batch))
        raise UserError(
            f"train.micro_batch={micro_batch} does not divide over mesh.data={data} devices; "
            f"try {near}"
        )
    # Auto axes: the default, Explicit ones, refuse x @ y.T with both sides split over "data"
    return jax.make_mesh(
        (data, config.model),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=devices,
    )


def partition(path: tuple, shape: tuple[int, ...], model_axis: int) -> P:
    """The split of one parameter or optimizer leaf, from its path and shape alone.

    Rows of the vocabulary's tables, of its bias and of its weights go over "model" where they
    divide; everything else is replicated.
    """
    names = [key.key for key in path if isinstance(key, DictKey)]
    is_vocabulary = {"words", "piece_weights"} & set(names) or names[-2:] in (
        ["token_head", "bias"],
        ["token_head", "decoder"],
    )
    if is_vocabulary and model_axis > 1 and shape and shape[0] % model_axis == 0:
        return P("model")
    return P()


def shardings(mesh: Mesh, tree):
    """A sharding per leaf of a tree of arrays or shapes, by `partition`."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition(path, leaf.shape, mesh.shape["model"])),
        tree,
    )


def by_row(mesh: Mesh, rows: int) -> NamedSharding:
    """The split of a batch: over all devices where its rows divide by their number, otherwise over
    "data". In the latter case devices along "model" encode the same sentences, each for itself."""
    is_even = mesh.shape["model"] > 1 and rows % mesh.size == 0
    return NamedSharding(mesh, P(("data", "model") if is_even else "data"))


def local_rows(mesh: Mesh, rows: int) -> np.ndarray:
    """Which of the rows of a batch this process holds, ascending."""
    held = by_row(mesh, rows).addressable_devices_indices_map((rows,)).values()
    return np.unique(np.concatenate([np.arange(rows)[index] for index in held]))


def put_batch(batch, mesh: Mesh, rows: int):
    """Puts this process's rows of a batch (`local_rows`) on its devices.

    Returns:
      The global batch of `rows` rows.
    """
    split = by_row(mesh, rows)

    def put(x):
        return jax.make_array_from_process_local_data(
            split, np.asarray(x), (rows, *np.shape(x)[1:])
        )

    return jax.tree.map(put, batch)
