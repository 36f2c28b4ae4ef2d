"""Token ids of (q, r) pairs: exactly lm-eval's wherever lm-eval defines them, and sound where it gives up."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import tiny
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from harness.core.errors import CheckpointError, DataError
from harness.core.pair import Pair
from harness.core.tokens import TokenSet
from harness.engines.models.tokenizer_identity import tokenizer_digest
from harness.tasks.reward_env.encode import boundary, encode

FRAGMENTS = ["qu", "ick", " brown", "def add", "(", "a,", " b", ")", ":", "return", "lazy dog", ".", "Paris", "12"]
SPACES = [" ", "  ", "\n", "\n\n", "\t", "\u00a0", "\u2028", "\r\n"]
ODD = ["<s>", "</s>", "é", "e\u0301", "日本", "🙂", "\u200b", "\x00", "ñ", "\ufeff", "[CLS]", "▁"]
TEXT = st.lists(st.sampled_from(FRAGMENTS + SPACES + ODD), max_size=6).map("".join)
RESPONSE = TEXT.filter(bool)
QUESTION = st.one_of(TEXT, st.just(""), st.sampled_from(SPACES), TEXT.map(lambda text: f"<s>{text}"))


def sentencepiece(*, prepend: str = "first") -> Any:
    """In the manner of LLaMA-2: Unigram over `▁` for spaces, a dummy space in front, BOS."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend)
    core.decoder = decoders.Metaspace(prepend_scheme=prepend)
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    core.train_from_iterator(tiny.TEXT, trainer)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def wordpiece() -> Any:
    """Lower-cased WordPiece that drops white space, with `[CLS]` in front."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    core.train_from_iterator(
        tiny.TEXT, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    core.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="[CLS]", eos_token="[SEP]", unk_token="[UNK]")


def with_eos(tokenizer: Any) -> Any:
    """The same tokenizer, but one that appends EOS to every text."""
    core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    ids = [(token, core.token_to_id(token)) for token in (bos, eos) if token]
    core.post_processor = processors.TemplateProcessing(single=f"{bos} $A {eos}", special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, eos_token=eos, unk_token=tokenizer.unk_token)


def across_words() -> Any:
    """BPE that does not stop at spaces: boundaries between q and r are often inside one token."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    special = ["<unk>", "<s>"]
    core.train_from_iterator(
        tiny.TEXT, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", unk_token="<unk>")


@cache
def tokenizers() -> dict[str, Any]:
    return {
        "byte-level BPE with BOS": tiny.tokenizer(),
        "byte-level BPE without BOS": tiny.tokenizer(bos=False),
        "Unigram, space in front of the first word": sentencepiece(),
        "Unigram, space in front of every piece": sentencepiece(prepend="always"),
        "BPE across words": across_words(),
        "WordPiece": wordpiece(),
        "slow, bytes": ByT5Tokenizer(),
    }


class Ids(NamedTuple):
    context: list[int]
    response: list[int]


@cache
def lm_eval_model(kind: str) -> Any:
    """lm-eval's own Hugging Face model class over this tokenizer, stopped where it would run the model."""
    from lm_eval.models.huggingface import HFLM

    class Encoder(HFLM):
        def _loglikelihood_tokens(self, requests: Any, **rest: Any) -> Any:
            return [Ids(context, response) for _, context, response in requests]

    # ByT5 appends EOS of its own, which lm-eval would score in r's place; without special tokens it is well defined.
    add_bos = False if kind == "slow, bytes" else None
    return Encoder(pretrained=tiny.llama(), tokenizer=tokenizers()[kind], add_bos_token=add_bos, device="cpu")


def by_lm_eval(kind: str, q: str, r: str) -> Ids | None:
    """What lm-eval would condition on and score; None where its own checks refuse the request."""
    from lm_eval.api.instance import Instance

    request = Instance(request_type="loglikelihood", doc={}, arguments=(q, r), idx=0)
    try:
        (ids,) = lm_eval_model(kind).loglikelihood([request], disable_tqdm=True)
    except IndexError:  # an empty q, and an r without tokens
        return None
    return ids if ids.context and ids.response else None


def ours(tokenizer: Any, q: str, r: str) -> tuple[Ids, TokenSet]:
    tokens = encode(tokenizer, [Pair(id="p", q=q, r=r)])
    (pair,) = tokens.pairs
    return Ids(pair.ids[: pair.n_context].tolist(), pair.ids[pair.n_context :].tolist()), tokens


def check_apart(tokenizer: Any, q: str, r: str) -> None:
    """What must hold where lm-eval gives up: an empty context, or no tokens left for the response."""
    text = boundary(q, r)
    bare_q, bare_r = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in text)
    prefix = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    try:
        found, tokens = ours(tokenizer, q, r)
    except DataError as error:
        part = "r" if not bare_r or (not q and bare_r == [prefix]) else "q"
        assert str(error) == f"pair p: {part} has no tokens under this tokenizer; remove the pair"
        assert part == "r" or not bare_q
        return
    assert found.response == bare_r
    assert tokens.n_boundary == (1 if text.q else 0)
    assert found.context[-len(bare_q) :] == bare_q if text.q else found.context == [prefix]


@pytest.mark.parametrize("kind", tokenizers())
@settings(max_examples=300, deadline=None)
@given(q=QUESTION, r=RESPONSE)
@example(q="The qu", r="ick")
@example(q="x  \n ", r=" y")
@example(q="", r="<s>x")
@example(q="<s>", r="x")
@example(q=" ", r="<s>x")
@example(q=" ", r="[CLS] x")
@example(q="", r="</s>")
@example(q="a", r="\u0301")
def test_ids_equal_lm_evals_and_where_it_gives_up_q_and_r_are_encoded_apart(kind: str, q: str, r: str) -> None:
    expected = by_lm_eval(kind, q, r)
    if expected is None:
        check_apart(tokenizers()[kind], q, r)
        return
    found, tokens = ours(tokenizers()[kind], q, r)
    assert found == expected
    assert tokens.n_boundary == 0


def test_both_sides_of_the_agreement_with_lm_eval_are_met() -> None:
    """The tokenizer that merges across words must give lm-eval cases of both sorts, or the property above is hollow."""
    cases = [("The qui", "ck brown"), ("The quick", " brown fox"), ("Paris", ", of course."), ("lazy d", "og")]
    defined = [by_lm_eval("BPE across words", q, r) is not None for q, r in cases]
    assert True in defined
    assert False in defined


@pytest.mark.parametrize("kind", tokenizers())
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.tuples(QUESTION, RESPONSE), min_size=1, max_size=8), seed=st.randoms())
def test_a_pairs_ids_depend_on_nothing_but_the_pair(kind: str, texts: list[tuple[str, str]], seed: Any) -> None:
    tokenizer = tokenizers()[kind]
    pairs = [Pair(id=str(n), q=q, r=r) for n, (q, r) in enumerate(texts)]
    alone = {}
    for pair in pairs:
        try:
            alone[pair.id] = encode(tokenizer, [pair])
        except DataError:
            continue
    pairs = [pair for pair in pairs if pair.id in alone]
    seed.shuffle(pairs)
    together = encode(tokenizer, pairs)
    assert together.n_boundary == sum(alone[pair.id].n_boundary for pair in pairs)
    for pair, encoded in zip(pairs, together.pairs, strict=True):
        (single,) = alone[pair.id].pairs
        assert encoded.id == pair.id
        assert encoded.ids.dtype == np.int32
        assert np.array_equal(encoded.ids, single.ids)
        assert 1 <= encoded.n_context < len(encoded.ids)
        assert encoded.n_context + encoded.n_tokens == len(encoded.ids)
        assert (encoded.n_context, encoded.n_bytes) == (single.n_context, single.n_bytes)


@given(q=TEXT, r=TEXT)
def test_white_space_changes_sides_and_nothing_is_lost(q: str, r: str) -> None:
    moved = boundary(q, r)
    assert moved.q + moved.r == q + r
    assert moved.q == moved.q.rstrip()
    assert moved.r.endswith(r)


@settings(max_examples=100, deadline=None)
@given(q=QUESTION, r=RESPONSE)
def test_bytes_are_those_of_the_text_that_is_scored(q: str, r: str) -> None:
    _, tokens = ours(tiny.tokenizer(), f"{q}x{q}", f"{r}x")
    spaces = q[len(q.rstrip()) :] if q.strip() else q
    assert tokens.pairs[0].n_bytes == len(f"{spaces}{r}x".encode())


@pytest.mark.parametrize("kind", ["byte-level BPE with BOS", "Unigram, space in front of the first word", "WordPiece"])
@settings(max_examples=100, deadline=None)
@given(q=QUESTION, r=RESPONSE)
def test_an_eos_that_the_tokenizer_appends_is_never_scored(kind: str, q: str, r: str) -> None:
    """lm-eval would take r's last tokens from the wrong place; here the numbers are those of a tokenizer without it."""
    plain = tokenizers()[kind]
    assume(by_lm_eval(kind, q, r) is not None)
    assert ours(with_eos(plain), q, r)[0] == ours(plain, q, r)[0]


def test_an_appended_eos_is_taken_off_for_a_vocabulary_without_letters() -> None:
    """The number of appended tokens is found by encoding a letter, which such a tokenizer has no token for."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<s>", "</s>"]
    core.train_from_iterator(["GATTACA CAT"], trainers.BpeTrainer(vocab_size=20, special_tokens=special))
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    found, _ = ours(tokenizer, "GAT", " TACA")
    assert found.context[0] == 0
    assert 1 not in found.context + found.response
    assert tokenizer.decode(found.response).replace(" ", "") == "TACA"


@pytest.mark.parametrize(("bos", "prefix"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("q", ["", " ", "\n\t "])
def test_a_blank_q_becomes_bos_or_else_eos(bos: bool, prefix: int, q: str) -> None:
    tokenizer = tiny.tokenizer(bos=bos)
    found, tokens = ours(tokenizer, q, "hello")
    assert found.context == [prefix]
    assert tokenizer.decode(found.response) == f"{q}hello"
    assert tokens.n_boundary == 0


def test_bos_is_not_doubled_where_the_text_begins_with_it() -> None:
    tokenizer = tiny.tokenizer()
    assert ours(tokenizer, "<s>The quick", " fox")[0] == ours(tokenizer, "The quick", " fox")[0]
    assert ours(tokenizer, "", "<s>fox")[0] == ours(tokenizer, "", "fox")[0]


def test_a_merge_that_swallows_r_is_counted() -> None:
    """One token for `ab` but none for the boundary inside it: lm-eval asserts, harness scores `b` after `a`."""
    core = Tokenizer(models.BPE(vocab={"<s>": 0, "a": 1, "b": 2, "ab": 3}, merges=[("a", "b")]))
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    found, tokens = ours(tokenizer, "a", "b")
    assert found == Ids([0, 1], [2])
    assert tokens.n_boundary == 1


def test_an_empty_q_without_bos_or_eos_is_a_fault_of_the_checkpoint() -> None:
    core = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core)
    assert ours(tokenizer, "a", "b")[0] == Ids([0], [1])
    with pytest.raises(CheckpointError, match="pair p has an empty q, and the tokenizer has neither a BOS nor an EOS"):
        ours(tokenizer, "", "b")


@pytest.mark.parametrize(("q", "r", "part"), [("a", "!", "r"), ("!", "a", "q"), ("", "!", "r")])
def test_text_without_tokens_names_the_pair_and_the_part(q: str, r: str, part: str) -> None:
    core = Tokenizer(models.BPE(vocab={"</s>": 0, "a": 1}, merges=[]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    with pytest.raises(DataError, match=f"pair p: {part} has no tokens under this tokenizer; remove the pair"):
        ours(tokenizer, q, r)


def test_a_text_that_a_vocabulary_lacks_is_named_and_the_others_are_read() -> None:
    core = Tokenizer(models.Unigram([("<s>", 0.0), ("\u2581ab", -1.0), ("\u2581", -2.0), ("b", -2.0), ("a", -9.0)]))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    pair = Pair(id="0", q="ab", r=" b")
    assert [list(one.ids) for one in encode(tokenizer, [pair]).pairs] == [[1, 2, 3]]
    with pytest.raises(
        CheckpointError, match=r"the tokenizer cannot encode 'ab cd' \(.*unknown token.*give it an unk_token"
    ):
        encode(tokenizer, [pair, Pair(id="1", q="ab", r=" cd")])
    assert tokenizer_digest(tokenizer) == tokenizer_digest(
        PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    )


def test_a_tokenizers_own_truncation_never_shortens_a_pair() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(max_length=4)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.model_max_length = 4
    found, _ = ours(tokenizer, "The quick brown fox", " jumps over the lazy dog. " * 3)
    assert tokenizer.decode(found.response) == " jumps over the lazy dog. " * 3


def test_pairs_without_a_cluster_are_clusters_of_their_own() -> None:
    pairs = [Pair(id="1", q="a", r="b"), Pair(id="0", q="a", r="b", cluster="0"), Pair(id="2", q="a", r="b")]
    clusters = [pair.cluster for pair in encode(tiny.tokenizer(), pairs).pairs]
    assert len(set(clusters)) == 3
