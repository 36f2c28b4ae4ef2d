"""Has a model review recorded simulations that failed, several at a time. Owns the concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from harness.core.chat import ChatModel
from harness.core.tau2.simulation import Simulation
from harness.tau2.judging.reviewer import review_by, wants_review
from harness.tau2.recordings.rescore import PreparedRecording, Rescored


async def review_failures(
    prepared: PreparedRecording, rescored: Sequence[Rescored], chat: ChatModel, *, max_concurrency: int
) -> list[Rescored]:
    """The same verdicts, with a review of each failure and the cause after it. Other simulations are returned unchanged."""
    policy = prepared.domain.policy(solo=prepared.recording.solo)
    limit = asyncio.Semaphore(max_concurrency)

    async def one(simulation: Simulation, item: Rescored) -> Rescored:
        task = prepared.tasks[simulation.task_id]
        async with limit:
            found = await review_by(chat, task, simulation, policy=policy)
        return replace(item, reviewed=found, assessment=item.assessment.after(found.review))

    async with asyncio.TaskGroup() as group:
        asked = {
            index: group.create_task(one(simulation, item))
            for index, (simulation, item) in enumerate(zip(prepared.recording.simulations, rescored, strict=True))
            if isinstance(simulation, Simulation) and wants_review(item.verdict)
        }
    return [asked[index].result() if index in asked else item for index, item in enumerate(rescored)]
