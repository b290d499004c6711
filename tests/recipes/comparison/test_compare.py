"""The comparison: equal parameters, runs in processes of their own, its table."""

import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import os
import pathlib
import signal

import numpy as np
import pytest

from recipes import compare
from recipes.comparison import processes
from recipes.comparison.cells import CELLS
from recipes.comparison.processes import run_here
from recipes.comparison.statistics import confidence_interval, differ, summarize
from recipes.comparison.sweep import read_result, read_results, result_path, sweep
from recipes.comparison.table import make_overview, make_page
from recipes.comparison.tasks.registry import TASKS
from recipes.comparison.trial import Trial, count, find_units, make_model, run
from recipes.run.command_line import UserError

pytestmark = pytest.mark.xdist_group("comparison")  # one server of processes

TASK = "adding-50"
TINY = Trial(TASK, "lstm", 1, parameters=100, effort=0.01)


@pytest.fixture(scope="module", autouse=True)
def modules_are_found():
    """By the processes of the sweep."""
    root = pathlib.Path(__file__).parents[3]
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *filter(None, [before])])
    yield
    os.environ.pop("PYTHONPATH")
    if before is not None:
        os.environ["PYTHONPATH"] = before


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", [TASK, "anbn", "mnist-rows"])
def test_parameters_are_as_near_as_units_allow(name, cell):
    task = TASKS[name]
    units = find_units(task, cell, 3000)
    chosen = make_model(task, cell, units).count_params()
    assert chosen == count(task, cell, units)
    others = [
        make_model(task, cell, other).count_params()
        for other in range(max(1, units - 8), units + 9)
        if other != units and count(task, cell, other) is not None
    ]
    assert others
    assert all(abs(chosen - 3000) <= abs(other - 3000) for other in others)


def test_units_of_an_lstm_by_hand():
    """4 gates of n units that read 2 features, n units and a bias; then one output."""
    for n in (1, 2, 7, 30):
        parameters = 4 * n * (2 + n + 1) + n + 1
        assert find_units(TASKS[TASK], "lstm", parameters) == n
        assert find_units(TASKS[TASK], "lstm", parameters + 1) == n


@pytest.mark.parametrize(
    ("parameters", "message"),
    [(10, "parameters must be at least .* for clockwork on"), (10**12, "fewer than")],
)
def test_sizes_that_no_network_has_are_refused(parameters, message):
    with pytest.raises(ValueError, match=f"{message}.*, got {parameters}"):
        find_units(TASKS[TASK], "clockwork", parameters)


def without_time(result):
    return {name: value for name, value in result.items() if name != "seconds"}


def test_a_trial_is_repeatable():
    result = run(TINY)
    assert without_time(run(TINY)) == without_time(result)
    other = run(dataclasses.replace(TINY, seed=2))
    assert other["losses"] != result["losses"]
    assert result["steps"] == 20 and len(result["losses"]) == 20
    assert result["figures"].keys() >= {TASKS[TASK].metric}
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_divergence_is_an_error(monkeypatch):
    nothing = {"mse": math.nan}
    monkeypatch.setattr(type(TASKS[TASK]), "evaluate", lambda *_: nothing)
    with pytest.raises(FloatingPointError, match="it diverged: loss .*nan"):
        run(TINY)


def run_or_die(trial, send):
    """What the processes do in place of training."""
    if trial.seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    if trial.seed == 3:
        send.send((None, "ValueError: it was planted"))
    else:
        made = result("lstm", 1, 0.5) | dataclasses.asdict(trial)
        made["units"] = find_units(TASKS[TASK], "lstm", trial.parameters)
        send.send((made | {"process": os.getpid()}, None))


def test_a_run_that_fails_costs_only_itself(tmp_path, monkeypatch):
    """And what is finished is not repeated."""
    monkeypatch.setattr(processes, "_run", run_or_die)
    trials = [dataclasses.replace(TINY, seed=seed) for seed in (1, 2, 3, 4, 5)]
    two = functools.partial(run_here, workers=2)
    reports = []
    known = read_results(trials, tmp_path)
    assert known == dict.fromkeys(trials)  # nothing was finished
    results = sweep(known, tmp_path, two, lambda *it: reports.append(it))
    errors = {trial.seed: error for trial, error in reports}
    assert errors.pop(2) == "its process ended with status -9"
    assert errors.pop(3) == "ValueError: it was planted"
    assert errors == {1: None, 4: None, 5: None}
    assert [result["seed"] for result in results] == [1, 4, 5]
    assert len({result["process"] for result in results} | {os.getpid()}) == 4

    result_path(tmp_path, trials[3]).unlink()
    again = []
    known = read_results(trials, tmp_path)
    assert [trial for trial in trials if known[trial]] == [trials[0], trials[4]]
    new = sweep(known, tmp_path, two, lambda ended, _: again.append(ended))
    assert sorted(trial.seed for trial in again) == [2, 3, 4]
    kept = [result for result in new if result["seed"] != 4]
    assert kept == [result for result in results if result["seed"] != 4]


def test_an_error_ends_all_processes(tmp_path, monkeypatch):
    """As Ctrl-C does."""
    monkeypatch.setattr(processes, "_run", run_or_die)
    trials = [dataclasses.replace(TINY, seed=seed) for seed in range(10, 30)]

    def report(ended, error):
        if ended:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one = functools.partial(run_here, workers=1)
        sweep(read_results(trials, tmp_path), tmp_path, one, report)
    finished = [trial for trial in trials if read_result(tmp_path, trial)]
    assert 1 <= len(finished) < 20
    assert not multiprocessing.active_children()


def test_results_of_other_choices_are_not_mixed(tmp_path):
    path = result_path(tmp_path, TINY)
    path.parent.mkdir()
    it = result("lstm", 1, 0.5) | {"units": find_units(TASKS[TASK], "lstm", 100)}
    path.write_text(json.dumps(it))
    assert read_result(tmp_path, TINY)["seed"] == 1
    message = "lstm-1.json has parameters 100, and not 200: choose another folder"
    with pytest.raises(UserError, match=message):
        read_result(tmp_path, dataclasses.replace(TINY, parameters=200))
    for damaged in ("{", "[]", "{}", json.dumps(dataclasses.asdict(TINY))):
        path.write_text(damaged)
        with pytest.raises(UserError, match="lstm-1.json is damaged"):
            read_result(tmp_path, TINY)
    for change, message in (  # results of an earlier version of the tasks
        ({"steps": 40}, "lstm-1.json has steps 40, and not 20: choose another"),
        ({"units": 9}, "lstm-1.json has units 9, and not 4: choose another"),
        ({"figures": {}}, "lstm-1.json is damaged .figures has no mse"),
        ({"figures": {"mse": "0"}}, "lstm-1.json is damaged .mse must be a number"),
        ({"figures": {"mse": True}}, "lstm-1.json is damaged .mse must be a number"),
        ({"figures": {"mse": math.nan}}, "lstm-1.json is damaged .it holds NaN"),
        ({"losses": [math.inf]}, "lstm-1.json is damaged .it holds Infinity"),
        ({"warning": [1]}, "lstm-1.json is damaged .warning must be"),
        ({"observed": [1]}, "lstm-1.json is damaged .observed must be an object"),
        ({"observed": {"before": {}}}, "lstm-1.json is damaged"),
        ({"observed": norms([1.0], ["x"])}, "lstm-1.json is damaged .a norm must be"),
        ({"observed": norms([1.0], [1.0, 2.0])}, "lstm-1.json is damaged .*lengths"),
    ):
        path.write_text(json.dumps(it | change))
        with pytest.raises(UserError, match=message):
            read_result(tmp_path, TINY)


def norms(before, after):
    return {"before": dict.fromkeys("hs", before), "after": dict.fromkeys("hs", after)}


def result(cell, seed, value, solved=False):
    return {
        **dataclasses.asdict(dataclasses.replace(TINY, cell=cell, seed=seed)),
        "units": 7,
        "model_parameters": 1234,
        "steps": 20,
        "figures": {"mse": value},
        "solved": solved,
        "observed": {},
        "device": "CPU: a test",
        "versions": {"tensorflow": "2.0", "keras": "3.0"},
    }


def test_no_winner_where_intervals_meet():
    """Those of Student's t with 4 degrees of freedom: 2.776 standard errors."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.01, 5)
    means = {"gru": 0.1, "lstm": 0.1001, "simple-rnn": 0.2}
    results = [
        result(cell, seed, mean + noise[seed - 1], solved=mean < 0.15)
        for cell, mean in means.items()
        for seed in (5, 1, 2, 3, 4)
    ]
    summaries = summarize(TASKS[TASK], results)
    assert [it.cell for it in summaries] == ["gru", "lstm", "simple-rnn"]
    assert [it.is_with_best for it in summaries] == [True, True, False]
    assert [it.solved for it in summaries] == [5, 5, 0]
    for it, mean in zip(summaries, means.values(), strict=True):
        np.testing.assert_allclose(it.values, mean + noise)
        np.testing.assert_allclose(it.mean, mean + noise.mean())
        deviation = math.sqrt(((noise - noise.mean()) ** 2).sum() / 4)
        np.testing.assert_allclose(it.deviation, deviation)
        half = 2.7764451 * deviation / math.sqrt(5)
        np.testing.assert_allclose(it.interval, (it.mean - half, it.mean + half))
    assert confidence_interval([1.0]) == (-math.inf, math.inf)


def test_seeds_that_are_all_worse_tell_beside_one_that_lies_far_out():
    """The best one's interval meets everything then."""
    far = {"peephole": (27, 27, 64, 64, 845), "gru": (10, 11, 11, 12, 12)}
    far["lstm"] = (12, 24, 24, 31, 31)
    task = dataclasses.replace(TASKS[TASK], better="higher")
    for seeds, bold in ((5, [True, True, False]), (3, [True, True, True])):
        results = [
            result(cell, seed, float(value))
            for cell, values in far.items()
            for seed, value in enumerate(values[:seeds])
        ]
        summaries = summarize(task, results)
        assert [it.cell for it in summaries] == ["peephole", "lstm", "gru"]
        if seeds == 5:
            assert summaries[0].interval[0] < 10
        assert [it.is_with_best for it in summaries] == bold


def test_a_higher_accuracy_is_the_better_one():
    results = [result("gru", 1, 0.5), result("lstm", 1, 0.9)]
    task = dataclasses.replace(TASKS[TASK], better="higher")
    assert [it.cell for it in summarize(task, results)] == ["lstm", "gru"]


def test_the_page():
    values = {"gru": (0.1, 0.11), "lstm": (0.1, 0.13), "simple-rnn": (0.9, 0.9001)}
    results = [
        result(cell, seed, value)
        for cell, pair in values.items()
        for seed, value in enumerate(pair, 1)
    ]
    page = make_page(results)
    assert "## adding-50" in page
    assert (
        "| gru | 7 | 1,234 | **0.105 ± 0.00707** | 0.0415 … 0.169 | 0.1, 0.11 |" in page
    )
    assert "**0.115 ± 0.0212**" in page
    assert "| simple-rnn | 7 | 1,234 | 0.9 ± 7.07e-05 |" in page  # behind the others
    assert "*lstm, published* | | | 0.164 |" in page
    assert "6 runs, 2 seeds each, on CPU: a test, TensorFlow 2.0, Keras 3.0." in page
    assert "; 1,234 parameters." in page
    assert "Failed" not in page
    one = results[0] | {"warning": "A sample!"}
    page = make_page([one, *results[2:]])
    assert "5 runs, 1 to 2 seeds each" in page
    assert "**A sample!** (1 of 5 runs)" in page
    assert "**Failed or not yet run: gru with seed 2.**" in page


def test_published_medians_are_called_so():
    it = result("lstm", 1, 0.5) | {"task": "anbn", "figures": {"largest_n": 9.0}}
    assert "| *peephole, published* | | | median 100 |" in make_page([it])


def test_how_many_of_nine_equal_cells_are_not_bold():
    """As the pages say: in about one of seven tables, one or more; and about one pair
    in a hundred looks different."""
    rng = np.random.default_rng(1)
    not_all, pairs = 0, []
    for _ in range(300):
        values = rng.normal(size=(9, 5))
        results = [
            result(f"{cell}", seed, float(values[cell, seed]))
            for cell in range(9)
            for seed in range(5)
        ]
        summaries = summarize(TASKS[TASK], results)
        not_all += not all(it.is_with_best for it in summaries)
        pairs += itertools.starmap(differ, itertools.combinations(summaries, 2))
    assert 0.09 < not_all / 300 < 0.20
    assert 0.005 < np.mean(pairs) < 0.02


def test_the_overview():
    """A task in a row; what may be the best is bold, what did not run is a dash."""
    results = [result("gru", 1, 0.1), result("gru", 2, 0.11), result("lstm", 1, 0.9)]
    results[2]["task"] = "anbn"
    results[2]["figures"] = {"largest_n": 12.0}
    assert make_overview(results).splitlines() == [
        "| task | measure | chance | gru | lstm |",
        "| --- | --- | --- | --- | --- |",
        "| add two of 50 numbers (`adding-50`) | mse ↓ | 0.167 | **0.105** | – |",
        "| count: aⁿbⁿ, trained to n = 10 (`anbn`) | largest n ↑ | 1 | – | **12** |",
    ]


def test_the_program(tmp_path, capsys):
    arguments = [
        *("--task", TASK, "--cells", "lstm,simple-rnn", "--seeds", "2"),
        *("--parameters", "100", "--budget", "0.01", "--output", str(tmp_path / "it")),
    ]
    assert compare.main(arguments) == 0
    written = {path.name: path for path in (tmp_path / "it").iterdir()}
    results = json.loads(written["results.json"].read_text())
    assert [(it["cell"], it["seed"]) for it in results] == [
        ("lstm", 1), ("simple-rnn", 1), ("lstm", 2), ("simple-rnn", 2),
    ]  # fmt: skip
    assert without_time(results[0]) == without_time(run(TINY))  # one thread or more
    assert written["results.md"].read_text() == make_page(results)
    assert written["results.png"].read_bytes().startswith(b"\x89PNG")
    assert compare.main(arguments) == 0
    assert "4/4" in capsys.readouterr().err
    assert json.loads(written["results.json"].read_text()) == results


def test_a_failure_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "_run", run_or_die)
    arguments = f"--task {TASK} --cells lstm --seeds 4 --output {tmp_path}".split()
    assert compare.main(arguments) == 1
    printed = capsys.readouterr().out
    assert "FAILED: lstm on adding-50, seed 2: its process ended with" in printed
    assert "FAILED: lstm on adding-50, seed 3: ValueError: it was planted" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert [result["seed"] for result in results] == [1, 4]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--task adding", "--task must name adding-50, .*got 'adding'"),
        ("--cells lstm,LSTM", "--cells must name lstm, .*got 'LSTM'"),
        ("--cells lstm,lstm", "--cells names something twice, got 'lstm,lstm'"),
        ("--seeds 0", "--seeds must be an integer from 1 to 1,000, got 0"),
        ("--seeds x", "invalid int value: 'x'"),
        ("--budget nan", "--budget must be a number from 0.001 to 1000, got nan"),
        ("--workers 0", "--workers must be an integer from 1 to 1,000, got 0"),
        ("--parameters 10", "--parameters must be at least 11 for .*got 10"),
        ("--output ''", "it must be a folder of this machine"),
    ],
)
def test_bad_flags_are_named(flags, message, tmp_path):
    flags = flags.replace("''", "").split(" ")
    with pytest.raises(UserError, match=message):
        compare.main(["--output", str(tmp_path), *flags])
