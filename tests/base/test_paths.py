"""Where the cache is, and where the configs and the sample are found."""

from pathlib import Path

import pytest

from jmer.base import cli, paths
from jmer.base.errors import UserError


def test_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("JMER_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.cache_root() == tmp_path / ".cache" / "jmer"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert paths.cache_root() == Path("/x/jmer")
    monkeypatch.setenv("JMER_CACHE", "/y")
    assert paths.cache_root() == Path("/y")


def test_a_clone_has_configs_and_sample_beside_the_package(root: Path):
    assert paths.configs_folder() == root / "configs"
    assert paths.sample_folder() == root / "data" / "sample"


def test_a_wheel_has_configs_and_sample_inside_the_package(tmp_path: Path):
    package = tmp_path / "site-packages" / "jmer"
    for name in ("configs", "sample"):
        (package / name).mkdir(parents=True)
    assert paths.configs_folder(package) == package / "configs"
    assert paths.sample_folder(package) == package / "sample"


@pytest.mark.parametrize("name", ["gat_fusion", "gat_fusion.py", "configs/gat_fusion", "configs/gat_fusion.py"])
def test_a_config_is_found_by_name_from_any_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
):
    monkeypatch.chdir(tmp_path)
    assert paths.find_config(name) == root / "configs" / "gat_fusion.py"


def test_a_config_in_a_folder_is_named_with_the_folder(root: Path):
    assert {"gat_fusion", "extract/lite"} <= set(paths.config_names())
    assert paths.find_config("extract/lite") == root / "configs" / "extract" / "lite.py"


def test_a_file_comes_before_a_config_of_jmers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()
    Path("configs/gat_fusion.py").write_text("")
    assert paths.find_config("configs/gat_fusion.py") == Path("configs/gat_fusion.py")


def test_a_folder_of_the_name_is_no_config(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    Path("gat_fusion").mkdir()
    assert paths.find_config("gat_fusion") == root / "configs" / "gat_fusion.py"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gat_fusoin", "has this name; did you mean 'gat_fusion'?"),
        ("configs/extract/light.py", "has this name; did you mean 'extract/lite'?"),
        ("/nowhere/zzz.py", "(bigru, causal, co_attention, "),
        ("../configs/gat_fusion.py", "does not exist"),
        ("configs", "does not exist"),
    ],
)
def test_an_unknown_config_is_refused_with_the_names_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, message: str
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        cli.load_config(name)
    assert str(error.value).startswith(f"config file {name} does not exist")
    assert message in str(error.value)


def test_every_config_that_comes_with_jmer_loads():
    for name in paths.config_names():
        cli.load_config(name)
