"""What the jobs of Ray Data share (the extra `ray`): workers, the cluster, and their results.

A job runs on the Ray cluster that the command finds (`RAY_ADDRESS`, or one started by `ray start`),
and otherwise on the cores of this machine. All machines must see the same folders.
"""

import dataclasses
import logging
import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from lightxling.base.errors import UserError
from lightxling.base.extras import require


@dataclasses.dataclass(frozen=True)
class Workers:
    """The processes of a job."""

    count: int = 0
    """0: as many as the cluster has cores or accelerators for."""
    cpus: int = 1
    """Cores of each, and its threads."""
    gpus: int = 0
    """Accelerators of each, for encoding with jax; 0: encoding with numpy on its cores."""

    def __post_init__(self) -> None:
        flags = {"--workers": (self.count, 0), "--worker-cpus": (self.cpus, 1)}
        for flag, (value, least) in {**flags, "--worker-gpus": (self.gpus, 0)}.items():
            if value < least:
                raise UserError(f"{flag}={value} should be at least {least}")


def connect() -> ModuleType:
    """The module, connected to a cluster; without one, to the cores of this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to its makers
    require("--engine ray", "ray", "pyarrow")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
    return ray


def fetched(settings: Any) -> Any:
    """What a worker was given, whether Ray has brought it or only told where it is."""
    import ray

    return ray.get(settings) if isinstance(settings, ray.ObjectRef) else settings


def results(
    dataset: Any, mapper: type, settings: Any, workers: Workers
) -> Iterator[dict[str, Any]]:
    """The rows that a pool of workers makes of a dataset, one row a task.

    Raises:
      UserError: as a worker raised it, or a task has failed too often.
    """
    import ray

    have = ray.cluster_resources()
    fits = int(
        have.get("GPU", 0) // workers.gpus if workers.gpus else have.get("CPU", 0) // workers.cpus
    )
    if not fits:
        raise UserError(
            f"no worker with {workers.cpus} cores and {workers.gpus} accelerators fits a cluster "
            f"of {have.get('CPU', 0):g} and {have.get('GPU', 0):g}; "
            "see --worker-cpus and --worker-gpus"
        )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(workers.cpus))
    dataset.context.target_max_block_size = 1  # byte: every row is a task of its own
    dataset.context.enable_progress_bars = False
    mapped = dataset.map_batches(
        mapper,
        fn_constructor_args=(settings,),
        batch_size=1,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers.count or fits),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus or None,
        runtime_env={"env_vars": threads},
    )
    try:
        yield from mapped.iter_rows()
    except ray.exceptions.RayError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, UserError):
            cause = getattr(cause, "cause", None) or cause.__cause__
        if cause is None:
            raise
        raise UserError(str(cause)) from None
