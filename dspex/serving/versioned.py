"""The part of a program's actor that keeps its versions: swapping, going back, trying one on a part of the traffic."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextvars import Context
from pathlib import Path
from typing import Any

from dspex.agents.runner import ProgramRunner
from dspex.serving.calls import Assignment, CallRecords, CallRequest
from dspex.serving.rollout.actor import RolloutActor
from dspex.serving.rollout.messages import AskRollout, ChangeVersion, RolloutParts
from dspex.serving.rollout.shadow import RunVersion
from dspex.serving.rollout.start import checked_policy, found_metrics
from dspex.serving.rollout.traffic import RolloutTraffic
from dspex.serving.versions import VersionChanged, Versions, VersionSkipped
from foundation.programs import AddVersion, BadVersion, GetVersion, ListVersions, Swap, UseVersion, Version
from foundation.rollouts import DecideRollout, GetRollout, GetRolloutHistory, StartRollout
from supervision import ReplyTo, Runtime, handle


class RolloutOptions:
    """What a program's actor was told of rollouts.

    Args:
        rollout: what a rollout is unless whoever starts it says otherwise, as `foundation.rollouts.Rollout` has it; a
            table without ``version``.
        metrics: functions that score answers, or ``package.module:function``, by the names that objectives give.
        shadow_safe: whether the program may be asked twice; None if nobody says.

    Raises:
        BadRollout: it makes no sense.
    """

    def __init__(
        self, rollout: Mapping[str, Any] | None, metrics: Mapping[str, Any] | None, shadow_safe: bool | None
    ) -> None:
        self.metrics = found_metrics(metrics)
        self.policy = checked_policy(rollout, self.metrics)
        self.shadow_safe = shadow_safe


class VersionedProgram(ProgramRunner):
    """Keeps the versions of a program, and serves one of them, or two while one is tried.

    A change waits for the disk while requests are answered. Once begun it is finished, also when its caller has gone,
    or the actor has ended: the next incarnation waits for it.

    Args:
        concurrency: see `ProgramRunner`.
        waiting: see `ProgramRunner`.
        versions: the versions.
        rollouts: what it was told of rollouts.
    """

    calls: CallRecords

    def __init__(self, concurrency: int, waiting: int | None, versions: Versions, rollouts: RolloutOptions) -> None:
        super().__init__(concurrency, waiting)
        self._versions = versions
        self._rollout_options = rollouts
        self._work: set[asyncio.Task[None]] = set()

    async def init(self) -> None:
        """Read the versions that were kept. A file that cannot be used is told, and left out."""
        await super().init()
        await self._versions.open()
        for file, why in sorted(self._versions.skipped.items()):
            about = {"ref": self.ref, "path": self.ref.path, "program": self.label}
            self.runtime.events.emit(VersionSkipped, **about, file=file, why=why)

    async def start_rollouts(self, run: RunVersion, inputs: Collection[str] | None) -> None:
        """Take up the rollout that was open; to be called once there are records of calls.

        Args:
            run: runs a version for the shadow.
            inputs: the names of the inputs that the program declares; None if it takes any.
        """
        options, folder = self._rollout_options, self._versions.folder
        key = (RolloutActor, None if folder is None else folder.absolute())
        turn = asyncio.Lock() if folder is None else self.runtime.shared.setdefault(key, asyncio.Lock())
        self._traffic = RolloutTraffic(self.calls.program)
        parts = RolloutParts(
            self.calls.program,
            self._versions,
            self._use,
            self.calls,
            self._traffic,
            options.policy,
            folder,
            turn,
            run,
            inputs,
            options.metrics,
            options.shadow_safe,
        )
        self._rollouts = await self.spawn_link(RolloutActor, parts)

    def assign(self, call: CallRequest, inputs: Mapping[str, Any]) -> Assignment:
        """Return which version is to run a call, when it is its turn."""
        return self._traffic.assign(call, inputs, self._serving)

    def _serving(self) -> Assignment:
        return Assignment(self._versions.program, self._versions.number)

    @handle
    def swap(self, request: Swap) -> None:
        """Serve another version from now on."""
        self._change(lambda: self._told(self._versions.add(request.program)), request.force)

    @handle
    def use_version(self, request: UseVersion) -> None:
        """Serve a version that is there already."""
        self._change(lambda: self._use(request.number), request.force)

    def _change(self, change: Callable[[], Awaitable[Version]], force: bool) -> None:
        self._rollouts.cast(ChangeVersion(change, force, self.defer_reply()))

    async def _use(self, number: int) -> Version:
        return await self._told(self._versions.use(number))

    async def _told(self, change: Coroutine[Any, Any, Version]) -> Version:
        found = await change
        about = {"ref": self.ref, "path": self.ref.path, "program": self.label}
        self.runtime.events.emit(VersionChanged, **about, version=found.number)
        return found

    @handle
    def add_version(self, request: AddVersion) -> None:
        """Keep a version that serves nobody yet."""
        self._begin(self._adding(self.defer_reply(), request.program))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    @handle
    def get_version(self, request: GetVersion) -> None:
        """Give a copy of a version."""
        number = self._versions.number if request.number is None else request.number
        self._begin(self._copying(self.defer_reply(), number))

    async def _copying(self, token: ReplyTo[Any], number: int) -> None:
        try:
            token.reply((await self._versions.find(number)).deepcopy())
        except BadVersion as error:
            token.fail(error)

    async def _adding(self, token: ReplyTo[Version], program: Any) -> None:
        try:
            token.reply(await self._versions.add(program, serve=False))
        except (BadVersion, OSError) as error:
            token.fail(error)

    @handle
    def list_versions(self, request: ListVersions) -> list[Version]:
        """Say which versions there are."""
        return self._versions.list()

    @handle
    def start_rollout(self, request: StartRollout) -> None:
        """Try a version on a part of the traffic."""
        self._ask(request)

    @handle
    def decide_rollout(self, request: DecideRollout) -> None:
        """Move a rollout by hand."""
        self._ask(request)

    @handle
    def get_rollout(self, request: GetRollout) -> None:
        """Say how the rollout stands."""
        self._ask(request)

    @handle
    def get_rollout_history(self, request: GetRolloutHistory) -> None:
        """Say which rollouts there were."""
        self._ask(request)

    def _ask(self, request: Any) -> None:
        self._rollouts.cast(AskRollout(request, self.defer_reply()))


def versions_of(runtime: Runtime, program: Any, folder: str | Path | None, settings: Collection[str]) -> Versions:
    """Return the versions of a program. In one runtime a folder has one writer at any time.

    Args:
        runtime: where the program is served.
        program: as it was written.
        folder: where versions are kept; None for in memory.
        settings: see `Versions`.
    """
    key = (Versions, None if folder is None else Path(folder).absolute())
    turn = None if folder is None else runtime.shared.setdefault(key, asyncio.Lock())
    return Versions(program, folder, settings, turn)
