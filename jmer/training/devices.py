"""Where arrays lie: a mesh of all devices of all processes, which share out the seeds or else the rows of batches.

Seeds need nothing of one another, so where their number can be divided by that of the devices, each device trains its
own. Otherwise each trains on its share of every batch's rows, and gradients are summed over the devices.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import joblib
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jmer.base.errors import UserError

Tree = Any  # a pytree of arrays
_Decision = TypeVar("_Decision", bool, int)


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
        self._platform = jax.devices()[0].platform
        self.everywhere = NamedSharding(mesh, PartitionSpec())
        self.state = NamedSharding(mesh, PartitionSpec("data" if by_seed else None))
        self._replicate = jax.jit(lambda tree: tree, out_shardings=self.everywhere)

    @property
    def description(self) -> str:
        what = "seeds" if self.rows == 1 else "rows of batches"
        return "one device" if self.count == 1 else f"{what} shared out among {self.count} devices"

    @property
    def one_by_one(self) -> bool:
        """Whether a device trains its seeds one after another.

        In products of all seeds together a GPU has more to do at once. A CPU has enough in one seed's: eight together
        took 1.1 times as long as one after another (benchmarks/step_time.py, before this was so).
        """
        return self._platform == "cpu"

    def index(self, ndim: int) -> NamedSharding:
        """Returns the sharding of utterance numbers, `[J, S, B, U]` or, without seeds, `[J, B, U]`."""
        axes = (None, None, "data", None) if self.rows > 1 else (None, *self.state.spec, None, None)
        return NamedSharding(self.everywhere.mesh, PartitionSpec(*(axes if ndim == 4 else (None, *axes[2:]))))

    def over_seeds(self, epoch: Callable[[Tree, Tree, Tree, jax.Array], Tree]) -> Callable[..., Tree]:
        """Returns the training of all seeds, given that of one.

        Args:
          epoch: takes a state, statistics, utterances and index `[J, B, U]`. What is returned takes states with a
            leading S axis and index `[J, S, B, U]`, and what comes out has S before it.
        """

        def of_device(state: Tree, stats: Tree, flat: Tree, index: jax.Array) -> Tree:
            if self.one_by_one:
                return jax.lax.map(lambda own: epoch(own[0], stats, flat, own[1]), (state, index.swapaxes(0, 1)))
            return jax.vmap(epoch, (0, None, None, 1))(state, stats, flat, index)

        if self.rows > 1 or self.count == 1:
            return of_device
        seeds, same = self.state.spec, self.everywhere.spec
        specs = (seeds, same, same, self.index(4).spec)
        return jax.shard_map(of_device, mesh=self.state.mesh, in_specs=specs, out_specs=seeds, check_vma=False)

    def fetch(self, tree: Tree) -> Tree:
        """Returns arrays of the host, from wherever they lie."""
        return jax.device_get(self._replicate(tree))


def share_cores(seeds: int) -> None:
    """Makes devices of the CPU's cores: as many as can share out so many seeds; before anything else is asked of JAX.

    JAX takes all cores for one device and splits single operations among them, which leaves them idle in between. A
    number in XLA_FLAGS is kept, and devices that are no CPUs stay as they are.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        fitting = max(n for n in range(1, joblib.cpu_count() + 1) if seeds % n == 0)
        jax.config.update("jax_num_cpu_devices", fitting)


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
    """Returns how many bytes of arrays the first of this process's devices can hold; of the host's, its share."""
    stats = jax.local_devices()[0].memory_stats() or {}
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return stats.get("bytes_limit", host // jax.local_device_count())


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


def as_main(decision: _Decision) -> _Decision:
    """Returns the main process's decision, a bool or an int, so that all processes do the same."""
    return type(decision)(multihost_utils.broadcast_one_to_all(np.array(decision, np.int32)))


def wait_for_all(name: str) -> None:
    """Returns when all processes have come to the call of this name."""
    multihost_utils.sync_global_devices(name)
