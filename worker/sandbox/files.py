"""A worker's files of its sandboxes: what lies where under the state directory, and how the engine finds it.

`run/<cell>/<worker>/<epoch>/<environment>/` holds FIFOs, `tmp/<cell>/<worker>/<epoch>/` the disks of `/tmp`: what a
dead worker left is told from everything else by its path alone.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from dataclasses import replace
from pathlib import Path

from worker.sandbox import dns
from worker.sandbox.container_config import HOST_NAME, LoopDevice, Places, Tmpfs
from worker.sandbox.driver import SandboxSpec
from worker.sandbox.identity import Owner
from worker.sandbox.run_dir import RunDir
from worker.sandbox.tmp_disk import TmpDisk, TmpDisks, remove_leftovers

_HOSTS = "hosts"
_RESOLV = "resolv.conf"


class SandboxFiles:
    """Blocking; safe to use from several threads for different environments."""

    def __init__(self, owner: Owner, state_dir: Path, host_state_dir: Path, *, has_loop_disks: bool) -> None:
        """Keep files under `state_dir`, which the engine knows as `host_state_dir`."""
        self._owner = owner
        self._state_dir = state_dir
        self._host_state_dir = host_state_dir
        self._run_root = state_dir / "run"
        self._tmp_root = state_dir / "tmp"
        self._disks = TmpDisks(self._tmp_root / owner.folder, self._tmp_root) if has_loop_disks else None

    def run_dir(self, environment_id: str) -> RunDir:
        """Return an environment's run directory, which may not exist yet."""
        return RunDir(self._run_root / self._owner.folder / environment_id)

    def new_disk(self, spec: SandboxSpec) -> TmpDisk | None:
        """Make the disk for `/tmp`, not attached yet; None where there are no disks. Raises TmpDiskError."""
        return self._disks.create(spec.environment_id, spec.ephemeral_storage_mb) if self._disks else None

    def places(self, spec: SandboxSpec, disk: TmpDisk | None) -> Places:
        """Attach the disk and tell where the engine finds everything.

        Raises TmpDiskError, and ValueError for code or layers outside the state directory when the engine's paths are
        others.
        """
        folder = self._run_root / self._owner.folder
        hosts, resolv = folder / _HOSTS, folder / _RESOLV
        if not resolv.exists():
            _write_whole(hosts, f"127.0.0.1 localhost {HOST_NAME}\n")
            _write_whole(resolv, dns.RESOLV_CONF)
        return Places(
            code_dir=self._host_path(spec.code_dir) if spec.code_dir else None,
            layers_dir=self._host_path(spec.layers_dir) if spec.layers_dir else None,
            run_dir=self._host_path(self.run_dir(spec.environment_id).path),
            hosts_file=self._host_path(hosts),
            resolv_file=self._host_path(resolv),
            tmp=LoopDevice(device=disk.attach()) if disk else Tmpfs(size_mb=spec.ephemeral_storage_mb),
        )

    def remove_predecessors(self) -> None:
        """Delete what other lives of this worker left; what is still in use stays for the next time."""
        for root in (self._tmp_root, self._run_root):
            for folder in (root / self._owner.cell / self._owner.worker_id).glob("*"):
                if folder.name.isdecimal() and folder.name != str(self._owner.epoch):
                    self.remove_life(replace(self._owner, epoch=int(folder.name)))

    def owners(self) -> set[Owner]:
        """Return the lives, of any worker of the cell that shares the directory, that have files here."""
        found = set()
        for root in (self._tmp_root, self._run_root):
            for folder in (root / self._owner.cell).glob("*/*"):
                if folder.name.isdecimal():
                    found.add(replace(self._owner, worker_id=folder.parent.name, epoch=int(folder.name)))
        return found

    def remove_if_unused(self) -> None:
        """Delete this life's own folders, if no sandbox has anything in them any more."""
        folder = self._run_root / self._owner.folder
        if not any(entry.is_dir() for entry in folder.glob("*")):
            for name in (_HOSTS, _RESOLV):
                (folder / name).unlink(missing_ok=True)
        for root in (self._run_root, self._tmp_root):
            # One that is not empty stays; the worker's own goes with its last life.
            with contextlib.suppress(OSError):
                (root / self._owner.folder).rmdir()
                (root / self._owner.folder).parent.rmdir()

    def remove_life(self, owner: Owner) -> None:
        """Delete what one life left; what is still in use stays for the next time."""
        for root in (self._tmp_root, self._run_root):
            folder = root / owner.folder
            remove_leftovers(folder)
            shutil.rmtree(folder, ignore_errors=True)
            # The worker's own folder goes with its last life.
            with contextlib.suppress(OSError):
                folder.parent.rmdir()

    def _host_path(self, path: Path) -> str:
        if self._host_state_dir == self._state_dir:
            return str(path)
        if not path.is_relative_to(self._state_dir):
            raise ValueError(f"{path} is outside the state directory {self._state_dir}: the engine can't mount it")
        return str(self._host_state_dir / path.relative_to(self._state_dir))


def _write_whole(path: Path, text: str) -> None:
    """Write so that no reader, and no second writer, meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    draft.write_text(text)
    draft.chmod(0o644)
    draft.rename(path)
