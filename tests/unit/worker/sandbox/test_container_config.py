from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from worker.sandbox.container_config import (
    LoopDevice,
    Places,
    Tmpfs,
    container_config,
    cpu_quota_us,
    foreign_config,
    holder_config,
)
from worker.sandbox.driver import ProcessSpec, SandboxSpec
from worker.sandbox.identity import Owner

OWNER = Owner(cell="blue", engine_id="AB:CD", worker_id="w1", epoch=7)
SPEC = SandboxSpec(
    environment_id="e1",
    image="image:1",
    memory_mb=256,
    ephemeral_storage_mb=512,
    code_dir=Path("/state/code/1"),
    labels={"lambdock.function": "f", "lambdock": "forged"},
)


def places(tmp: LoopDevice | Tmpfs | None = None, layers_dir: str | None = None) -> Places:
    return Places(
        code_dir="/host/code",
        layers_dir=layers_dir,
        run_dir="/host/run",
        hosts_file="/host/hosts",
        resolv_file="/host/resolv",
        tmp=tmp or LoopDevice(device="/dev/loop3"),
    )


CONFIG = container_config(SPEC, OWNER, places(), has_swappiness=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NetworkMode", "lambdock-blue"),
        ("ReadonlyRootfs", True),
        ("Privileged", False),
        ("CapDrop", ["ALL"]),
        ("SecurityOpt", ["no-new-privileges"]),
        ("IpcMode", "private"),
        ("PidsLimit", 1024),
        ("Ulimits", [{"Name": "nofile", "Soft": 1024, "Hard": 1024}, {"Name": "core", "Soft": 0, "Hard": 0}]),
        ("Memory", 256 << 20),
        ("MemorySwap", 256 << 20),
        ("MemorySwappiness", 0),
        ("OomKillDisable", False),
        ("CpuPeriod", 100_000),
        ("CpuQuota", 14_471),
        ("LogConfig", {"Type": "none", "Config": {}}),
        ("Init", True),
        ("RestartPolicy", {"Name": "no"}),
        ("Sysctls", {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}),
    ],
)
def test_host_config_holds_each_limit(name: str, value: object) -> None:
    assert CONFIG["HostConfig"][name] == value


@pytest.mark.parametrize(
    "name", ["CapAdd", "Devices", "Binds", "PortBindings", "PidMode", "UsernsMode", "ExtraHosts", "GroupAdd", "Env"]
)
def test_nothing_is_given_that_was_not_asked_for(name: str) -> None:
    assert name not in CONFIG["HostConfig"]
    assert name not in CONFIG


def test_user_is_numeric_and_no_root() -> None:
    assert CONFIG["User"] == "993:990"


def test_every_mount_but_tmp_is_a_private_read_only_bind() -> None:
    mounts = {mount["Target"]: mount for mount in CONFIG["HostConfig"]["Mounts"]}

    assert set(mounts) == {"/var/task", "/run/lambdock", "/etc/hosts", "/etc/resolv.conf", "/tmp"}
    tmp = mounts.pop("/tmp")
    assert all(m["Type"] == "bind" and m["ReadOnly"] for m in mounts.values())
    # The engine refuses private mounts of what lies below its own root.
    assert all("BindOptions" not in m for m in mounts.values())
    assert mounts["/var/task"]["Source"] == "/host/code"
    assert tmp["VolumeOptions"]["DriverConfig"]["Options"]["device"] == "/dev/loop3"
    assert "Source" not in tmp


def test_layers_are_mounted_read_only_at_opt() -> None:
    config = container_config(SPEC, OWNER, places(layers_dir="/host/merged"), has_swappiness=True)

    mounts = {mount["Target"]: mount for mount in config["HostConfig"]["Mounts"]}
    assert mounts["/opt"] == {"Type": "bind", "Source": "/host/merged", "Target": "/opt", "ReadOnly": True}


FOREIGN_SPEC = replace(
    SPEC, holder_image="holder:1", code_dir=None, volumes=("/data", "///tmp/", "/data/", "/etc/hosts")
)
PROCESS = ProcessSpec(argv=("/entry", "x"), env={"A": "1", "B": "a=b"}, cwd="/w")
FOREIGN = foreign_config(FOREIGN_SPEC, PROCESS, OWNER, places(), holder_id="abc", has_swappiness=True)


def test_a_foreign_image_is_as_isolated_as_ours() -> None:
    ours, foreign = dict(CONFIG["HostConfig"]), dict(FOREIGN["HostConfig"])
    differing = {name for name in ours | foreign if ours.get(name) != foreign.get(name)}

    assert differing == {"NetworkMode", "Sysctls", "Mounts"}, "the network is its holder's, which has these"
    assert foreign["NetworkMode"] == "container:abc"
    assert (FOREIGN["User"], FOREIGN["Labels"], FOREIGN["Healthcheck"]) == (
        CONFIG["User"],
        CONFIG["Labels"],
        {"Test": ["NONE"]},
    )


def test_a_foreign_image_s_process_is_given_whole() -> None:
    assert (FOREIGN["Entrypoint"], FOREIGN["Cmd"], FOREIGN["WorkingDir"]) == (["/entry", "x"], [], "/w")
    assert FOREIGN["Env"] == ["A=1", "B=a=b", "HOSTNAME"]
    named = replace(PROCESS, env={"HOSTNAME": "mine"})
    assert foreign_config(FOREIGN_SPEC, named, OWNER, places(), holder_id="abc", has_swappiness=True)["Env"] == [
        "HOSTNAME=mine"
    ]


def test_a_foreign_image_s_volumes_are_read_only_and_never_in_the_place_of_ours() -> None:
    mounts = {mount["Target"]: mount for mount in FOREIGN["HostConfig"]["Mounts"]}

    assert set(mounts) == {"/etc/hosts", "/etc/resolv.conf", "/tmp", "/data"}
    assert len(mounts) == len(FOREIGN["HostConfig"]["Mounts"])
    assert (mounts["/data"]["Type"], mounts["/data"]["ReadOnly"]) == ("volume", True)
    assert mounts["/data"]["Source"] == "lambdock-blue-e1-0", "the engine refuses read-only volumes without a name"
    assert mounts["/data"]["VolumeOptions"]["Labels"]["lambdock.worker"] == "w1"
    assert mounts["/tmp"]["VolumeOptions"]["DriverConfig"]["Options"]["device"] == "/dev/loop3"
    assert mounts["/etc/hosts"]["Type"] == "bind"


@pytest.mark.parametrize("path", ["data", "../data", "./data", ""])
def test_an_image_with_a_volume_that_the_engine_takes_for_another_path_is_refused(path: str) -> None:
    spec = replace(FOREIGN_SPEC, volumes=("/data", path))

    with pytest.raises(ValueError, match="absolute"):
        foreign_config(spec, PROCESS, OWNER, places(), holder_id="abc", has_swappiness=True)


def test_an_image_with_too_many_volumes_is_refused() -> None:
    spec = replace(FOREIGN_SPEC, volumes=tuple(f"/v{number}" for number in range(65)))

    with pytest.raises(ValueError, match="65 volumes"):
        foreign_config(spec, PROCESS, OWNER, places(), holder_id="abc", has_swappiness=True)


def test_a_holder_has_the_network_and_nothing_of_the_function_s() -> None:
    config = holder_config(FOREIGN_SPEC, OWNER, places(), has_swappiness=True)

    assert config["Image"] == "holder:1"
    assert config["Labels"] == CONFIG["Labels"]
    assert config["HostConfig"]["NetworkMode"] == "lambdock-blue"
    assert config["HostConfig"]["Sysctls"] == CONFIG["HostConfig"]["Sysctls"]
    assert (config["HostConfig"]["Memory"], config["HostConfig"]["CpuQuota"]) == (64 << 20, 100_000)
    assert {mount["Target"] for mount in config["HostConfig"]["Mounts"]} == {
        "/run/lambdock",
        "/etc/hosts",
        "/etc/resolv.conf",
    }


def test_labels_of_ownership_win_over_the_specs() -> None:
    assert CONFIG["Labels"] == {
        "lambdock.function": "f",
        "lambdock": "blue",
        "lambdock.engine": "AB:CD",
        "lambdock.worker": "w1",
        "lambdock.epoch": "7",
        "lambdock.environment": "e1",
    }


def test_tmp_in_memory_has_its_size() -> None:
    config = container_config(SPEC, OWNER, places(Tmpfs(size_mb=512)), has_swappiness=False)

    assert "size=512m" in config["HostConfig"]["Tmpfs"]["/tmp"]
    assert "MemorySwappiness" not in config["HostConfig"]
    assert not [mount for mount in config["HostConfig"]["Mounts"] if mount["Target"] == "/tmp"]


@pytest.mark.parametrize(("memory_mb", "quota_us"), [(1769, 100_000), (128, 7_235), (10_240, 578_858), (1, 1_000)])
def test_cpu_share_follows_memory(memory_mb: int, quota_us: int) -> None:
    assert cpu_quota_us(memory_mb) == quota_us


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "a b"])
def test_owner_with_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="worker id"):
        Owner(cell="c", engine_id="e", worker_id=name, epoch=1)
