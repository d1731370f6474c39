"""The device mesh of all processes, and where arrays lie on it: seeds are sharded if divisible, otherwise batch rows.

Seeds are independent of each other. If the number of devices divides the number of seeds, each device trains its own
seeds. Otherwise each device trains on its share of the rows of every batch, and gradients are summed over the devices.
"""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jmer.base import limits
from jmer.base.errors import UserError

Tree = Any  # a pytree of arrays
_Decision = TypeVar("_Decision", bool, int)


class Placement:
    """The shardings of the arrays of training.

    count: how many devices there are.
    rows: the number of rows of a batch must be a multiple of it.
    everywhere: the sharding of arrays that all devices need whole.
    state: the sharding of a training state, whose leaves begin with S.
    """

    def __init__(self, *, seeds: int, devices: int = 0):
        """Makes the mesh.

        Args:
          devices: how many devices to use, the first ones; 0 for all.

        Raises:
          UserError: JAX has fewer devices.
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
        """A phrase for the user: what the devices share out among themselves."""
        what = "seeds" if self.rows == 1 else "rows of batches"
        return "one device" if self.count == 1 else f"{what} shared out among {self.count} devices"

    @property
    def one_by_one(self) -> bool:
        """Whether a device trains its seeds one after another, as a CPU does.

        A GPU is busier when the products of all seeds run together. One seed keeps a CPU busy: eight seeds together
        took 1.1 times as long as one after another (measured with benchmarks/step_time.py before this rule).
        """
        return self._platform == "cpu"

    def index(self, ndim: int) -> NamedSharding:
        """Returns the sharding of utterance numbers: `[J, S, B, U]`, or `[J, B, U]` without seeds."""
        axes = (None, None, "data", None) if self.rows > 1 else (None, *self.state.spec, None, None)
        return NamedSharding(self.everywhere.mesh, PartitionSpec(*(axes if ndim == 4 else (None, *axes[2:]))))

    def over_seeds(self, epoch: Callable[[Tree, Tree, Tree, jax.Array], Tree]) -> Callable[..., Tree]:
        """Returns a function that trains all seeds, given one that trains a single seed.

        Args:
          epoch: takes a state, statistics, utterances and an index `[J, B, U]`. The returned function takes states with
            a leading S axis and an index `[J, S, B, U]`, and its results have a leading S axis.
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
        """Returns a tree of device arrays, however they are sharded, as arrays of the host."""
        return jax.device_get(self._replicate(tree))


def share_cores(seeds: int) -> None:
    """Makes devices of the CPU's cores: the largest number of cores that divides `seeds`. Call it before JAX starts.

    By default JAX takes all cores for one device and splits single operations among them, so that cores idle in
    between. A device count in XLA_FLAGS is kept, and other kinds of devices are left alone.
    """
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        fitting = max(n for n in range(1, limits.cores() + 1) if seeds % n == 0)
        jax.config.update("jax_num_cpu_devices", fitting)


def put(tree: Tree, sharding: NamedSharding) -> Tree:
    """Puts arrays of the host on the devices; every process has the same arrays."""

    def one(x: np.ndarray) -> jax.Array:
        # `device_put` of the whole array would compare it between the processes each time.
        parts = sharding.addressable_devices_indices_map(x.shape).items()
        return jax.make_array_from_single_device_arrays(
            x.shape, sharding, [jax.device_put(x[part], device) for device, part in parts]
        )

    return jax.tree.map(one, jax.device_get(tree))


def memory() -> int:
    """Returns how many bytes the first device of this process can hold; a device of the host has an equal share of its
    memory."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit", limits.memory() // jax.local_device_count())


def join_processes(coordinator: str, *, count: int | None, number: int | None) -> None:
    """Joins the processes of a run. Call it before JAX starts.

    Args:
      coordinator: HOST:PORT of process 0; with `auto`, JAX asks the cluster (Slurm, Open MPI, Kubernetes, Cloud TPU).
      count: how many processes there are.
      number: which of them this process is, from 0.

    Raises:
      UserError: the processes cannot connect, or `auto` finds no cluster.
    """
    auto = coordinator == "auto"
    if not auto and (count is None or number is None):
        raise UserError("--coordinator=HOST:PORT needs --processes and --process too; or take --coordinator=auto")
    try:
        jax.distributed.initialize(None if auto else coordinator, count, number)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"--coordinator={coordinator}: {str(error).splitlines()[0]}") from error


def is_main() -> bool:
    """Returns whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def as_main(decision: _Decision) -> _Decision:
    """Returns the decision of the main process, a bool or an int, so that all processes do the same."""
    return type(decision)(multihost_utils.broadcast_one_to_all(np.array(decision, np.int32)))


def wait_for_all(name: str) -> None:
    """Waits until all processes have reached the call of this name."""
    multihost_utils.sync_global_devices(name)
