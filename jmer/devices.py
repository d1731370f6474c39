"""Where arrays lie: a mesh of all devices of all processes, which share out the seeds or else the rows of batches.

Seeds need nothing of one another, so where their number can be divided by that of the devices, each device trains its
own. Otherwise each trains on its share of every batch's rows, and gradients are summed over the devices.
"""

import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jmer.errors import UserError

Tree = Any  # a pytree of arrays


class Placement:
    """Puts the arrays of training where they belong.

    count: of devices.
    rows: what the number of rows of a batch must be a multiple of.
    everywhere, state: shardings of what all devices need, and of a training state, whose leaves begin with S.
    """

    def __init__(self, *, seeds: int, devices: int = 0):
        """Makes the mesh.

        Args:
          devices: how many to use, the first ones; 0 for all.

        Raises:
          UserError: there are fewer.
        """
        self.count = devices or jax.device_count()
        if self.count > jax.device_count():
            raise UserError(f"config.devices is {devices}, but there are {jax.device_count()}; 0 takes all")
        mesh = jax.make_mesh((self.count,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[: self.count])
        by_seed = seeds % self.count == 0
        self.rows = 1 if by_seed else self.count
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self.state = NamedSharding(mesh, PartitionSpec("data" if by_seed else None))
        self._replicate = jax.jit(lambda tree: tree, out_shardings=self.everywhere)

    @property
    def description(self) -> str:
        what = "seeds" if self.rows == 1 else "rows of batches"
        return "one device" if self.count == 1 else f"{what} shared out among {self.count} devices"

    def index(self, ndim: int) -> NamedSharding:
        """Returns the sharding of utterance numbers, `[J, S, B, U]` or, without seeds, `[J, B, U]`."""
        axes = (None, None, "data", None) if self.rows > 1 else (None, *self.state.spec, None, None)
        return NamedSharding(self.everywhere.mesh, PartitionSpec(*(axes if ndim == 4 else (None, *axes[2:]))))

    def fetch(self, tree: Tree) -> Tree:
        """Returns arrays of the host, from wherever they lie."""
        return jax.device_get(self._replicate(tree))


def put(tree: Tree, sharding: NamedSharding) -> Tree:
    """Puts arrays of the host, the same ones in every process, on the devices."""

    def one(x: np.ndarray) -> jax.Array:
        # Not device_put of the whole, which would compare it between the processes each time.
        parts = sharding.addressable_devices_indices_map(x.shape).items()
        return jax.make_array_from_single_device_arrays(
            x.shape, sharding, [jax.device_put(x[part], device) for device, part in parts]
        )

    return jax.tree.map(one, jax.device_get(tree))


def memory() -> int:
    """Returns how many bytes of arrays the first of this process's devices, or the host where it is one, can hold."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def join_processes(coordinator: str, *, count: int | None, number: int | None) -> None:
    """Joins the processes of a run, before anything else is asked of JAX.

    Args:
      coordinator: HOST:PORT of process 0; `auto`: all is read off the cluster (Slurm, Open MPI, Kubernetes, Cloud TPU).

    Raises:
      UserError: they do not come together, or `auto` finds no cluster.
    """
    auto = coordinator == "auto"
    if not auto and (count is None or number is None):
        raise UserError("--coordinator=HOST:PORT needs --processes and --process too; or take --coordinator=auto")
    try:
        jax.distributed.initialize(None if auto else coordinator, count, number)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--coordinator={coordinator}: {str(error).splitlines()[0]}") from error


def is_main() -> bool:
    """Whether this process is the one that writes files and speaks."""
    return jax.process_index() == 0


def as_main(decision: bool) -> bool:
    """Returns what the main process decided, so that all do the same."""
    return bool(multihost_utils.broadcast_one_to_all(np.array(decision)))


def wait_for_all(name: str) -> None:
    """Returns when all processes have come to the call of this name."""
    multihost_utils.sync_global_devices(name)
