from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from worker.sandbox.cgroups import Cgroup, CgroupNotFoundError, CgroupVersion, find_cgroups, parse_oom_kills

CONTAINER = "c0ffee" * 10 + "beef"


def v1(root: Path, place: str, cpu: str = "cpu") -> Path:
    for controller in ("memory", cpu, "freezer"):
        (root / controller / place).mkdir(parents=True)
    (root / "memory" / place / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    (root / "memory" / place / "memory.max_usage_in_bytes").write_text("3145729\n")
    (root / cpu / place / "cpu.cfs_quota_us").write_text("7235\n")
    (root / "freezer" / place / "freezer.state").write_text("THAWED\n")
    (root / "freezer" / place / "cgroup.procs").write_text("")
    return root


def v2(root: Path, place: str) -> Path:
    path = root / place
    path.mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids\n")
    (path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\n")
    (path / "memory.peak").write_text("1048576\n")
    (path / "cpu.max").write_text("7235 100000\n")
    (path / "cgroup.freeze").write_text("0\n")
    (path / "cgroup.kill").write_text("")
    (path / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    (path / "cgroup.procs").write_text("")
    return root


@pytest.mark.parametrize("place", [f"docker/{CONTAINER}", f"system.slice/docker-{CONTAINER}.scope"])
@pytest.mark.parametrize("cpu", ["cpu", "cpu,cpuacct"])
def test_v1_is_found_for_both_engine_drivers(tmp_path: Path, place: str, cpu: str) -> None:
    found = find_cgroups(v1(tmp_path, place, cpu), CONTAINER, "")

    assert found.version is CgroupVersion.V1
    assert found.memory == tmp_path / "memory" / place
    assert found.cpu == tmp_path / cpu / place
    assert found.freezer == found.procs == tmp_path / "freezer" / place


@pytest.mark.parametrize("place", [f"docker/{CONTAINER}", f"system.slice/docker-{CONTAINER}.scope"])
def test_v2_is_found_for_both_engine_drivers(tmp_path: Path, place: str) -> None:
    found = find_cgroups(v2(tmp_path, place), CONTAINER, "")

    assert found.version is CgroupVersion.V2
    assert found.memory == found.cpu == found.freezer == found.procs == tmp_path / place


def test_the_kernels_word_comes_first(tmp_path: Path) -> None:
    place = f"custom.slice/docker-{CONTAINER}.scope"

    found = find_cgroups(v2(tmp_path, place), CONTAINER, f"0::/{place}\n")

    assert found.memory == tmp_path / place


def test_paths_relative_to_a_cgroup_namespace_are_not_followed(tmp_path: Path) -> None:
    found = find_cgroups(v2(tmp_path, f"docker/{CONTAINER}"), CONTAINER, f"0::/../{CONTAINER}\n")

    assert found.memory == tmp_path / "docker" / CONTAINER


def test_hybrid_layout_is_v1(tmp_path: Path) -> None:
    (tmp_path / "unified").mkdir()
    memberships = f"4:cpu,cpuacct:/docker/{CONTAINER}\n3:memory:/docker/{CONTAINER}\n0::/docker/{CONTAINER}\n"

    assert find_cgroups(v1(tmp_path, f"docker/{CONTAINER}"), CONTAINER, memberships).version is CgroupVersion.V1


def test_unknown_container_is_an_error_that_tells_where_was_looked(tmp_path: Path) -> None:
    with pytest.raises(CgroupNotFoundError, match=r"docker/c0ffee.*system\.slice"):
        find_cgroups(tmp_path, CONTAINER, "")


def test_v1_limits_boosts_and_reads(tmp_path: Path) -> None:
    place = f"docker/{CONTAINER}"
    with contextlib.closing(Cgroup(find_cgroups(v1(tmp_path, place), CONTAINER, ""))) as cgroup:
        cgroup.boost_cpu()
        assert (tmp_path / "cpu" / place / "cpu.cfs_quota_us").read_text().startswith("-1")
        cgroup.limit_cpu(7235, 100_000)

        assert (tmp_path / "cpu" / place / "cpu.cfs_quota_us").read_text().startswith("7235")
        assert cgroup.memory_peak_mb() == 4
        assert cgroup.oom_kill_count() == 0


def test_v2_limits_boosts_and_reads(tmp_path: Path) -> None:
    place = f"docker/{CONTAINER}"
    with contextlib.closing(Cgroup(find_cgroups(v2(tmp_path, place), CONTAINER, ""))) as cgroup:
        cgroup.limit_cpu(14471, 100_000)

        assert (tmp_path / place / "cpu.max").read_text().startswith("14471 100000")
        assert cgroup.memory_peak_mb() == 1
        assert cgroup.oom_kill_count() == 2


async def test_v2_is_frozen_killed_and_thawed(tmp_path: Path) -> None:
    place = f"docker/{CONTAINER}"
    with contextlib.closing(Cgroup(find_cgroups(v2(tmp_path, place), CONTAINER, ""))) as cgroup:
        assert await cgroup.kill()

    assert (tmp_path / place / "cgroup.kill").read_text() == "1"
    assert (tmp_path / place / "cgroup.freeze").read_text().startswith("0")


def test_last_peak_outlives_the_container(tmp_path: Path) -> None:
    cgroup = Cgroup(find_cgroups(v1(tmp_path, f"docker/{CONTAINER}"), CONTAINER, ""))
    cgroup.close()
    cgroup.close()

    assert cgroup.memory_peak_mb() == 4
    assert cgroup.oom_kill_count() is None


@pytest.mark.parametrize(("text", "count"), [("", 0), ("oom_kill 3\n", 3), ("oom 1\noom_kill_disable 0\n", 0)])
def test_oom_kills_are_counted(text: str, count: int) -> None:
    assert parse_oom_kills(text) == count
