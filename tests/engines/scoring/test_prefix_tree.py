"""The prefix tree and its packs hold every sequence exactly, whatever they share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.core.component import SilentProgress
from harness.core.tokens import TokenPair
from harness.engines.scoring.packs import PackPlan
from harness.engines.scoring.prefix_tree import build_tree
from harness.engines.scoring.reads import MOST_SCORES, WASTE, Group
from harness.engines.scoring.score import score

SEQUENCES = st.lists(
    st.lists(st.integers(0, 2), min_size=1, max_size=30).map(lambda ids: np.array(ids, dtype=np.int32)),
    min_size=1,
    max_size=30,
)


@given(SEQUENCES, st.integers(1, 8))
def test_every_sequence_is_the_tokens_on_its_path(sequences: list[np.ndarray], min_shared: int) -> None:
    tree = build_tree(sequences, min_shared=min_shared)
    for sequence, leaf in zip(sequences, tree.leaf.tolist(), strict=True):
        path = tree.path(leaf)
        assert np.concatenate([tree.nodes[node].tokens for node in path]).tolist() == sequence.tolist()
        depths = [tree.nodes[node].depth for node in path]
        assert depths == np.cumsum([0, *(len(tree.nodes[node].tokens) for node in path[:-1])]).tolist()


@given(SEQUENCES)
def test_nothing_is_read_twice_when_everything_may_be_shared(sequences: list[np.ndarray]) -> None:
    tree = build_tree(sequences, min_shared=1)
    distinct = {tuple(sequence[:n].tolist()) for sequence in sequences for n in range(1, len(sequence) + 1)}
    assert sum(len(node.tokens) for node in tree.nodes) == len(distinct)


def visible(group: Group) -> Iterator[tuple[int, int, np.ndarray]]:
    """Every query row of a group, its depth, and the rows it looks at."""
    sees = group.sees()
    for b, i in zip(*np.nonzero(group.real), strict=True):
        if group.causal:
            assert sees[b, i].tolist() == [at <= i for at in range(group.k.shape[1])]
        yield int(group.q[b, i]), int(group.depth[b, i]), group.k[b][sees[b, i]]


@given(SEQUENCES, st.data(), st.integers(1, 60), st.integers(1, 20), st.sampled_from([0, 50, 2**18]))
def test_packs_predict_every_response_token_once_from_its_own_past(
    sequences: list[np.ndarray], data: st.DataObject, tokens: int, rows: int, slack: int
) -> None:
    pairs = []
    for index, ids in enumerate(sequences):
        whole = np.append(ids, 9).astype(np.int32)
        n_context = data.draw(st.integers(1, len(ids)))
        pairs.append(TokenPair(id=str(index), ids=whole, n_context=n_context, n_bytes=1, cluster=str(index)))
    seen: dict[int, list[int]] = {index: [] for index in range(len(pairs))}
    for pack in PackPlan(pairs).packs(tokens=tokens, rows=rows, slack=slack):
        past: dict[int, list[int]] = {}
        for group in pack.groups:
            for row, at, k in visible(group):
                assert row not in past
                past[row] = pack.ids[k].tolist()
                assert pack.depth[row] == at
                assert pack.depth[k].tolist() == list(range(at + 1))
                assert k[-1] == row
        assert sorted(past) == list(range(len(pack.ids)))
        narrowed: dict[int, list[int]] = {}
        for group in pack.row_groups:
            for row, _, k in visible(group):
                assert row not in narrowed
                narrowed[row] = pack.ids[k].tolist()
        assert narrowed == {index: past[row] for index, row in enumerate(pack.rows.tolist())}
        for entry, target, index in zip(pack.entry_row.tolist(), pack.target.tolist(), pack.pair.tolist(), strict=True):
            before = past[int(pack.rows[entry])]
            assert pairs[index].ids[: len(before)].tolist() == before
            assert pairs[index].ids[len(before)] == target
            seen[index].append(len(before))
        if pack.n_pairs > 1:
            assert len(pack.ids) <= tokens
    for index, pair in enumerate(pairs):
        assert sorted(seen[index]) == list(range(pair.n_context, len(pair.ids)))


def of_all_lengths() -> list[TokenPair]:
    generator = np.random.default_rng(0)
    return [
        TokenPair(id=str(i), ids=generator.integers(0, 99, n).astype(np.int32), n_context=1, n_bytes=1, cluster="")
        for i, n in enumerate(generator.integers(5, 400, 200).tolist())
    ]


def test_slack_makes_fewer_groups_and_wastes_no_more_than_it() -> None:
    slack = 2**16
    plan = PackPlan(of_all_lengths())
    few, many = (plan.packs(tokens=4096, rows=2**30, slack=s) for s in (slack, 0))
    assert sum(len(pack.groups) for pack in few) < 0.7 * sum(len(pack.groups) for pack in many)
    for group in (group for pack in few for group in pack.groups):
        needed = int((group.real.sum(axis=1) ** 2).sum())
        assert group.real.size * group.k.shape[1] <= max(WASTE * needed, needed + slack)


def test_groups_waste_little_and_stay_small() -> None:
    for pack in PackPlan(of_all_lengths()).packs(tokens=4096, rows=2**30):
        for group in pack.groups:
            needed = (group.real.sum(axis=1) ** 2).sum()
            assert group.real.size * group.k.shape[1] <= min(WASTE * needed, MOST_SCORES) or len(group.q) == 1
        assert len(pack.groups) <= 12


def choices(n: int) -> list[TokenPair]:
    """Questions of one subject with four answers each."""
    generator = np.random.default_rng(1)
    preamble = generator.integers(0, 99, 60)
    found = []
    for question in range(n):
        q = np.concatenate([preamble, generator.integers(0, 99, 30)])
        for answer in range(4):
            ids = np.concatenate([q, generator.integers(0, 99, 3 + answer)]).astype(np.int32)
            found.append(TokenPair(id=f"{question} {answer}", ids=ids, n_context=90, n_bytes=1, cluster=str(question)))
    return found


def test_the_answers_of_a_question_look_at_it_together() -> None:
    pairs = choices(5)
    (joined,) = PackPlan(pairs).packs_of(range(20), tokens=4096, rows=2**30)
    (apart,) = PackPlan(pairs).packs_of(range(20), tokens=4096, rows=2**30, join=False)
    count = [sum(group.k.size for group in pack.groups + pack.row_groups) for pack in (joined, apart)]
    assert count[0] < 0.5 * count[1]
    assert joined.ids.tolist() == apart.ids.tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_answer_leaves_the_others_of_its_question_alone(bad: float) -> None:
    model = tiny.llama()
    clean = score(model, PackPlan(choices(3)), progress=SilentProgress()).logprob
    with torch.no_grad():
        model.model.embed_tokens.weight[300] = bad
    pairs = choices(3)
    pairs[5].ids[-2] = 300
    values = score(model, PackPlan(pairs), progress=SilentProgress()).logprob
    assert np.isfinite(values).tolist() == [index != 5 for index in range(12)]
    kept = [index for index in range(12) if index != 5]
    assert values[kept] == pytest.approx(clean[kept], abs=1e-4)


@pytest.mark.parametrize("length", [1, 5, 20, 39])
def test_a_broken_token_reaches_no_pair_that_does_not_read_it(length: int) -> None:
    """A pair that is the beginning of another is clean where the other goes on with a token whose embedding is NaN."""
    model = tiny.llama()
    with torch.no_grad():
        model.model.embed_tokens.weight[77] = float("nan")
    ids = np.arange(100, 140, dtype=np.int32)
    spoilt = ids.copy()
    spoilt[-1] = 77
    inside = TokenPair(id="inside", ids=np.append(ids[:length], 5), n_context=1, n_bytes=1, cluster="a")
    longer = TokenPair(id="longer", ids=np.append(spoilt, [6, 7]), n_context=30, n_bytes=1, cluster="b")
    values = score(model, PackPlan([inside, longer]), progress=SilentProgress()).logprob
    assert np.isfinite(values).tolist() == [True, False]
