"""`spikec eval`: requests scored as written down, the harness's own prompts and metrics, and bad input."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import pytest

from spikec import evaluation
from spikec.cli import main
from spikec.evaluation import generation, sentences
from spikec.evaluation.compare import row
from spikec.evaluation.data import FILES, documents
from spikec.evaluation.scorer import Pair, Scorer
from spikec.ir.diagnostics import SpikecError
from spikec.runtime.generate import generate
from spikec.runtime.session import Compiled, run
from spikec.text import load_tokenizer

Refused = Callable[..., str]
Compile = Callable[[str, str], Path]

needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="the extra [eval] is not installed"
)
HARNESSED = ("wikitext", "lambada", "wsc273", "piqa", "arc_easy")


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def sentence(random: np.random.Generator, words: int) -> str:
    return " ".join(f"w{i}" for i in random.integers(1, models.VOCABULARY, words))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tasks' files, in the words of the tests' tokenizer, twelve documents each."""
    folder, random = tmp_path_factory.mktemp("tasks"), np.random.default_rng(3)
    s = lambda low, high: sentence(random, int(random.integers(low, high)))  # noqa: E731
    twelve = range(12)
    files = {
        "wikitext": "".join(
            f" \n = w{i} w{i + 1} = \n \n {s(20, 90)} \n = = w9 = = \n {s(5, 9)} \n" for i in twelve
        ),
        "lambada": lines(*({"context": s(33, 40), "continuation": s(1, 2)} for _ in twelve)),
        "wsc273": lines(
            *(
                {
                    "context_options": [f"{start} w{i} w7", f"{start} w{i + 20}"],
                    "continuation": s(2, 5),
                    "gold": i % 2,
                }
                for i in twelve
                for start in [s(2, 6)]
            )
        ),
        "piqa": lines(
            *(
                {"query": f"Question: {s(3, 9)}\n", "choices": [s(2, 9), s(2, 9)], "gold": i % 2}
                for i in twelve
            )
        ),
        "arc_easy": lines(
            *(
                {
                    "query": f"Question: {s(3, 9)}",
                    "choices": [s(1, 4) for _ in range(3 + i % 3)],
                    "gold": i % 3,
                }
                for i in twelve
            )
        ),
        "stsb": "".join(
            f"main\tfile\t2012\t{i}\t{random.integers(0, 26) / 5}\t{s(3, 9)}\t{s(3, 9)}\n" for i in twelve
        ),
    }
    for task, content in files.items():
        (folder / FILES[task]).write_text(content)
    return folder


@pytest.fixture
def scorer(llama: Path) -> Scorer:
    compiled = Compiled(llama)
    return Scorer(compiled, "packed", load_tokenizer(llama), context=32)


def pairs(count: int, seed: int = 0) -> list[Pair]:
    random = np.random.default_rng(seed)
    return [
        tuple(random.integers(1, models.VOCABULARY, int(n)).tolist() for n in random.integers(1, 6, 2))  # type: ignore[misc]
        for _ in range(count)
    ]


def by_definition(scorer: Scorer, before: list[int], after: list[int]) -> tuple[float, bool]:
    """One token after another, each by a run of its own."""
    total, greedy, ids = 0.0, True, list(before)
    for token in after:
        logits = run(scorer.session, {"input_ids": np.array([ids])})[scorer.output][0, -1].astype(np.float64)
        total += logits[token] - np.log(np.exp(logits).sum())
        greedy &= int(logits.argmax()) == token
        ids.append(token)
    return total, greedy


def test_a_score_is_the_sum_of_the_tokens_log_likelihoods(scorer: Scorer) -> None:
    asked = pairs(12)
    likeliest = next(generate(scorer.session, scorer.inputs, [5, 6, 7], 1))
    asked.append(([5, 6, 7], [likeliest]))
    answers = scorer.score(asked)
    for (value, greedy), pair in zip(answers, asked, strict=True):
        expected, expected_greedy = by_definition(scorer, *pair)
        assert value == pytest.approx(expected, abs=1e-5) and greedy == expected_greedy
    assert answers[-1][1] and not all(greedy for _, greedy in answers)


def test_an_answer_does_not_depend_on_the_batch(llama: Path, scorer: Scorer) -> None:
    asked = pairs(40)
    together = scorer.score(asked)
    alone = [scorer.score([pair])[0] for pair in asked]
    turned = scorer.score(asked[::-1])[::-1]
    single = Scorer(Compiled(llama), "packed", scorer.tokenizer, context=32, batch=1).score(asked)
    assert together == alone == turned == single
    sizes = [len(batch) for batch in scorer.batches([b + a for b, a in asked])]
    assert max(sizes) > 1 and sum(sizes) == len(asked)


def test_what_does_not_fit_the_window_loses_its_beginning(scorer: Scorer) -> None:
    ids = np.random.default_rng(1).integers(1, models.VOCABULARY, 50).tolist()
    assert scorer.score([(ids[:47], ids[47:])]) == scorer.score([(ids[17:47], ids[47:])])
    assert scorer.score([(ids[:47], ids[47:])]) != scorer.score([(ids[18:47], ids[47:])])
    with pytest.raises(SpikecError, match="a text to score has 33 tokens"):
        scorer.score([(ids[:1], ids[1:34])])


def test_a_model_of_a_fixed_length_is_filled_up(tmp_path: Path, scorer: Scorer) -> None:
    model = models.llama()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 2
        value.type.tensor_type.shape.dim[1].dim_value = 16
    path = models.save(tmp_path, model)
    assert main(["compile", str(path), "-o", str(tmp_path / "out"), "-T", "8"]) == 0
    compiled = Compiled(tmp_path / "out")
    fixed = Scorer(compiled, "ann", scorer.tokenizer, context=512)
    free = Scorer(Compiled(path_of_free(tmp_path)), "ann", scorer.tokenizer, context=512)
    asked = pairs(5)
    values = [[value for value, _ in s.score(asked)] for s in (fixed, free)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)
    with pytest.raises(SpikecError, match="cannot continue a text"):
        fixed.continuations(np.array([[1, 2, 3]]), 2)


def path_of_free(folder: Path) -> Path:
    path = models.save(folder / "free", models.llama)
    assert main(["compile", str(path), "-o", str(folder / "free-out"), "-T", "8"]) == 0
    return folder / "free-out"


def test_continuations_are_those_of_run(scorer: Scorer) -> None:
    prompts = np.random.default_rng(2).integers(1, models.VOCABULARY, (5, 6))
    expected = [list(generate(scorer.session, scorer.inputs, row.tolist(), 9)) for row in prompts]
    assert scorer.continuations(prompts, 9).tolist() == expected


def test_agreement_counts_places_and_the_common_beginning() -> None:
    ann, snn = (
        np.array([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]]),
        np.array([[1, 2, 3, 4], [9, 2, 3, 4], [1, 2, 9, 4]]),
    )
    itself, other = generation.agreement(ann, snn)
    assert itself["same_tokens"][0] == [1, 1, 1] and itself["common_prefix"][0] == [4, 4, 4]
    assert other["same_tokens"][0] == [1, 0.75, 0.75] and other["common_prefix"][0] == [4, 0, 2]


def test_spearman_with_ties_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is the reference")
    random = np.random.default_rng(0)
    human, machine = random.integers(0, 6, 200), random.normal(size=200).round(1)
    machine += human / 3
    ours = sentences.spearman(list(zip(human.tolist(), machine.tolist())))
    assert ours == pytest.approx(stats.spearmanr(human, machine).statistic, abs=1e-12)
    assert sentences.spearman([(1, 2), (2, 2)]) == 0


def test_standard_errors_are_those_of_a_mean() -> None:
    random = np.random.default_rng(0)
    ann = (random.random(400) < 0.3).astype(float).tolist()
    snn = [1 - value if place % 20 == 0 else value for place, value in enumerate(ann)]
    found = row("task", "acc", ann, snn, lambda values: sum(values) / len(values))
    assert found.ann_error == pytest.approx(np.std(ann) / 20, rel=0.15)
    assert found.difference_error == pytest.approx(np.std(np.subtract(snn, ann)) / 20, rel=0.15)
    assert found.same == pytest.approx(0.95) and found.difference == pytest.approx(
        np.mean(snn) - np.mean(ann)
    )


def test_an_embedding_is_the_mean_of_its_tokens_alone(compiled: Compile) -> None:
    folder = compiled("bert", "fp32")
    encoder, tokenizer = Compiled(folder), load_tokenizer(folder)
    texts = ["w1 w2 w3", "w4 w5", "w9 w8 w7", "w1 w2 w3 w4"]
    vectors = sentences.embed(encoder, "ann", tokenizer, texts)
    session = encoder.session("ann")
    for text, vector in zip(texts, vectors):
        ids = np.array([tokenizer.encode(text).ids])
        hidden = run(session, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[encoder.outputs[0]]
        assert vector == pytest.approx(hidden[0].mean(0), abs=1e-5)
    assert (
        sentences.embed(encoder, "packed", tokenizer, texts[:1])[0]
        == sentences.embed(encoder, "packed", tokenizer, texts)[0]
    ).all()


def test_sentence_encoders_are_asked_stsb(
    capsys: pytest.CaptureFixture[str], compiled: Compile, data: Path
) -> None:
    folder = str(compiled("bert", "fp32"))
    capsys.readouterr()
    assert main(["eval", folder, "--data-dir", str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (found,) = result["results"]
    assert (found["task"], found["metric"], found["documents"]) == ("stsb", "spearman", 12)
    assert found["ann"] != 0 and found["difference"] == pytest.approx(found["snn"] - found["ann"])


def test_generation_without_the_harness(capsys: pytest.CaptureFixture[str], llama: Path, data: Path) -> None:
    words = ("--tasks", "generation", "--data-dir", data, "--prompts", 3, "--new-tokens", 5)
    assert main(["eval", str(llama), *map(str, words)]) == 0
    out = capsys.readouterr().out
    assert "same_tokens" in out and "common_prefix" in out and "± one standard error" in out


def test_nothing_but_the_tasks_imports_the_harness() -> None:
    code = "import sys, spikec.evaluation.run, spikec.commands.eval\n"
    code += "print({'lm_eval', 'torch'} & {*sys.modules})"
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True
    )
    assert result.stdout == "set()\n"


# What the harness makes of the files


@needs_harness
def test_prompts_are_the_harnesss(data: Path, tmp_path: Path) -> None:
    from spikec.evaluation.harness import build

    def arguments(task: str, *given: Any) -> list[tuple[str, ...]]:
        (tmp_path / FILES[task]).write_text(lines(*given) if isinstance(given[0], dict) else given[0])
        built = build(task, documents(task, tmp_path))
        built.build_all_requests()
        return [instance.args for instance in built.instances]

    assert arguments("lambada", {"context": "To be or\nnot to", "continuation": "be"}) == [
        ("To be or\nnot to", " be")
    ]
    assert arguments("piqa", {"query": "Question: How?\n", "choices": ["So.", "Or so."], "gold": 1}) == [
        ("Question: How?\nAnswer:", " So."),
        ("Question: How?\nAnswer:", " Or so."),
    ]
    assert arguments("arc_easy", {"query": "Question: Why?", "choices": ["a", "b", "c"], "gold": 2}) == [
        ("Question: Why?\nAnswer:", f" {choice}") for choice in "abc"
    ]
    contexts = ["He came. The man's", "He came. The boy's"]
    assert arguments("wsc273", {"context_options": contexts, "continuation": "hat fell.", "gold": 0}) == [
        (context, "  hat fell.")
        for context in contexts  # two spaces: the harness's own
    ]
    pages = " \n = A = \n \n One , two . \n \n = = B = = \n \n Three . \n \n = C = \n \n Four . \n"
    found = arguments("wikitext", pages)
    assert (
        len(found) == 2
        and "One, two.\n" in found[0][0]
        and "Three.\n" in found[0][0]
        and "Four" in found[1][0]
    )


@needs_harness
@pytest.mark.parametrize("task", HARNESSED)
def test_metrics_are_those_of_the_answers(scorer: Scorer, data: Path, task: str) -> None:
    """The harness's metrics, made again from the scorer's answers as the task's paper defines them."""
    from spikec.evaluation.harness import HarnessModel, build, score

    scores = score(task, documents(task, data), HarnessModel(scorer))
    built = build(task, documents(task, data))
    built.build_all_requests()
    model, by_document = HarnessModel(scorer), {}
    for instance in built.instances:
        by_document.setdefault(instance.doc_id, []).append(instance)
    answers = {
        place: getattr(model, instances[0].request_type)(instances)
        for place, instances in by_document.items()
    }
    assert len(answers) == 12
    for metric, (values, aggregate) in scores.items():
        if task == "wikitext":
            words = [len(page["page"].split()) for page in documents(task, data)]
            expected = np.exp(-sum(answers[i][0] for i in answers) / (sum(words) + 2 * len(words)))
            assert metric != "word_perplexity" or aggregate(values) == pytest.approx(expected)
        elif metric == "perplexity":
            assert aggregate(values) == pytest.approx(np.exp(-np.mean([answers[i][0][0] for i in answers])))
        elif task == "lambada":
            assert values == [int(answers[i][0][1]) for i in answers]
        else:
            gold = [place_of_gold(task, document) for document in documents(task, data)]
            lengths = [
                [len(choice) for choice in built.doc_to_choice(by_document[i][0].doc)] for i in answers
            ]
            likelihoods = [np.array([value for value, _ in answers[i]]) for i in answers]
            if metric == "acc_norm":
                likelihoods = [values / size for values, size in zip(likelihoods, lengths)]
            assert values == [float(lls.argmax() == right) for lls, right in zip(likelihoods, gold)]


def place_of_gold(task: str, document: dict[str, Any]) -> int:
    return int(document["answerKey"] if task == "arc_easy" else document["label"])


@needs_harness
def test_a_rolling_score_takes_every_token_once(scorer: Scorer) -> None:
    from lm_eval.api.instance import Instance

    from spikec.evaluation.harness import HarnessModel

    text = sentence(np.random.default_rng(4), 70)
    ids = scorer.tokenizer.encode(text).ids
    (value,) = HarnessModel(scorer).loglikelihood_rolling([Instance("loglikelihood_rolling", {}, (text,), 0)])
    window = scorer.context
    expected = by_definition(scorer, [scorer.beginning], ids[:window])[0]
    expected += by_definition(scorer, ids[window - 1 : window], ids[window : 2 * window])[0]
    # The last window is as long as all others; only its new tokens count.
    expected += by_definition(scorer, ids[69 - window : 2 * window], ids[2 * window :])[0]
    assert value == pytest.approx(expected, abs=1e-4)


@needs_harness
def test_generation_stops_where_it_is_told(scorer: Scorer) -> None:
    from lm_eval.api.instance import Instance

    from spikec.evaluation.harness import HarnessModel

    def text(**options: Any) -> str:
        instance = Instance("generate_until", {}, ("w5 w6 w7", {"max_gen_toks": 8, **options}), 0)
        return HarnessModel(scorer).generate_until([instance])[0]

    whole = text(until=[])
    words = whole.split()
    assert len(words) == 8
    assert text(until=[words[3]]) == whole.split(words[3])[0]
    with pytest.raises(SpikecError, match="only greedy text"):
        text(do_sample=True)


@needs_harness
def test_all_tasks_of_a_language_model(
    capfd: pytest.CaptureFixture[str], compiled: Compile, data: Path
) -> None:
    folder = str(compiled("llama", "fp32"))
    capfd.readouterr()
    words = ["--data-dir", str(data), "--limit", "5", "--context", "32", "--new-tokens", "3"]
    assert main(["eval", folder, "--json", *words]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    result = json.loads(out)
    metrics = [(found["task"], found["metric"]) for found in result["results"]]
    assert metrics == [
        *(("wikitext", metric) for metric in ("word_perplexity", "byte_perplexity", "bits_per_byte")),
        *(("lambada", metric) for metric in ("perplexity", "acc")),
        ("wsc273", "acc"),
        *((task, metric) for task in ("piqa", "arc_easy") for metric in ("acc", "acc_norm")),
        *(("generation", metric) for metric in ("same_tokens", "common_prefix")),
    ]
    assert {found["documents"] for found in result["results"]} == {5}
    assert set(result["seconds"]) == {task for task, _ in metrics}


# Bad input


def test_an_unknown_task_is_told_the_nearest(refused: Refused, llama: Path, data: Path) -> None:
    said = refused("eval", llama, "--tasks", "lambda", "--data-dir", data)
    assert "unknown task 'lambda'" in said and "did you mean lambada?" in said
    assert "names no task" in refused("eval", llama, "--tasks", ",", "--data-dir", data)


@pytest.mark.parametrize("task", ["generation", "piqa"])
def test_missing_data(refused: Refused, llama: Path, tmp_path: Path, task: str) -> None:
    said = refused("eval", llama, "--tasks", task, "--data-dir", tmp_path)
    assert f"no data for {task}" in said and FILES[task] in said and "--data-dir" in said


@pytest.mark.parametrize(
    "task, content, said",
    [
        ("lambada", '{"context": "a"}', "no 'continuation'"),
        ("lambada", "context,continuation", "Expecting value"),
        ("lambada", "\xff", "is not UTF-8 text"),
        ("lambada", "\n", "holds no document"),
        ("piqa", '{"query": "How?", "choices": ["a", "b"], "gold": 0}', "does not begin with 'Question: '"),
        ("piqa", '{"query": "Question: a", "choices": ["a"], "gold": 0}', "not enough values"),
        ("arc_easy", '{"query": "Question: a", "choices": ["a", "b"], "gold": 2}', "gold is 2"),
        ("wsc273", "[1]", "list indices"),
        ("wikitext", "Some text without a title.", "is not WikiText"),
        ("stsb", "a\tb\tc", "is not STS-B"),
    ],
)
def test_data_of_another_form(tmp_path: Path, task: str, content: str, said: str) -> None:
    (tmp_path / FILES[task]).write_bytes(content.encode("latin-1"))
    with pytest.raises(SpikecError, match=said) as error:
        documents(task, tmp_path)
    assert FILES[task] in str(error.value) and "; " in str(error.value)


def test_without_the_extra(
    refused: Refused, llama: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(evaluation, "harness", raising=False)
    monkeypatch.delitem(sys.modules, "spikec.evaluation.harness", raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    said = refused("eval", llama, "--tasks", "piqa", "--data-dir", data)
    assert "need the lm-evaluation-harness" in said and "pip install 'spikec[eval]'" in said


def test_models_that_do_not_fit(
    refused: Refused, compiled: Compile, llama: Path, data: Path, tmp_path: Path
) -> None:
    bert = compiled("bert", "fp32")
    said = refused("eval", bert, "--tasks", "generation", "--data-dir", data)
    assert "is no language model" in said and "no output has scores over a vocabulary" in said
    assert "is no sentence encoder" in refused("eval", llama, "--tasks", "stsb", "--data-dir", data)
    assert "is not a compiled model" in refused("eval", tmp_path, "--data-dir", data)
    assert "too small" in refused("eval", llama, "--data-dir", data, "--limit", 0, "--tasks", "generation")


def test_a_tokenizer_of_another_model(refused: Refused, llama: Path, data: Path, tmp_path: Path) -> None:
    models.tokenizer(500).save(str(tmp_path / "tokenizer.json"))
    said = refused("eval", llama, "--tasks", "generation", "--data-dir", data, "--tokenizer", tmp_path)
    assert "do not belong together" in said
