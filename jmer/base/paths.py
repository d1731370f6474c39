"""Where jmer keeps its cache, and where it finds the configs and the sample corpus that come with it.

A clone holds the configs and the sample beside the package, in `configs/` and `data/sample/`. A wheel holds both inside
the package, in `jmer/configs/` and `jmer/sample/`.
"""

import os
from pathlib import Path

from jmer.base.errors import UserError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent.parent


def cache_root() -> Path:
    """Returns the cache folder: `$JMER_CACHE`, else `jmer` in `$XDG_CACHE_HOME`, else `jmer` in `~/.cache`."""
    if own := os.environ.get("JMER_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jmer"


def configs_folder(package: Path = _PACKAGE) -> Path:
    """Returns the folder of the configs that come with jmer. `package` is the folder of jmer's own code."""
    return _bundled(package, inside="configs", beside="configs")


def sample_folder(package: Path = _PACKAGE) -> Path:
    """Returns the folder of the embedded sample corpus. `package` is the folder of jmer's own code."""
    return _bundled(package, inside="sample", beside="data/sample")


def config_names() -> tuple[str, ...]:
    """Returns the names of the configs that come with jmer, such as `gat_fusion` and `extract/lite`, sorted."""
    folder = configs_folder()
    return tuple(sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.py")))


def find_config(name: str | Path) -> Path:
    """Returns the config file of this name.

    Args:
      name: a path of a file; or the name of a config that comes with jmer, such as `gat_fusion`, `extract/lite` or
        `configs/gat_fusion.py`. A file at the path takes precedence over a config that comes with jmer.

    Raises:
      UserError: there is no such file and no such config.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = config_names()
    bundled = path.with_suffix("") if path.suffix == ".py" else path
    if bundled.parts[:1] == ("configs",):
        bundled = Path(*bundled.parts[1:])
    if bundled.as_posix() in known:
        return configs_folder() / f"{bundled.as_posix()}.py"
    hint = did_you_mean(bundled.as_posix(), known) or f" ({', '.join(known)})"
    raise UserError(f"config file {name} does not exist, and no config that comes with jmer has this name{hint}")


def _bundled(package: Path, *, inside: str, beside: str) -> Path:
    in_wheel = package / inside
    return in_wheel if in_wheel.is_dir() else package.parent / beside
