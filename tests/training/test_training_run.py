from types import SimpleNamespace

import pytest
import torch

from mouthpiece.engine.device import Placement
from mouthpiece.engine.errors import UsageError
from mouthpiece.training import training_run
from mouthpiece.training.training_run import (
    TrainingRun,
    WeightAverage,
    choose_training_device,
    compute_learning_rate,
    fit,
)


class Clock:
    """A clock that stands still until it is told to go on."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(training_run, "time", clock)
    return clock


def a_run(path, minutes=1.0, width=2, seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Linear(width, width)
    return TrainingRun(path, dict(net=net), dict(net=torch.optim.Adam(net.parameters(), 0.01)), minutes)


def a_step(run):
    optimizer = run.optimizers["net"]
    optimizer.zero_grad()
    (run.modules["net"](torch.ones(1, 2)) ** 2).sum().backward()
    optimizer.step()


def test_the_rate_warms_up_holds_and_falls():
    assert [compute_learning_rate(1.0, 0.0, step, warmup=4) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert compute_learning_rate(2.0, 0.5, 999) == 2.0 and compute_learning_rate(2.0, 0.75, 999) == pytest.approx(1.0)
    assert compute_learning_rate(2.0, 1.0, 999) == compute_learning_rate(2.0, 1.7, 999) == pytest.approx(0.06)


def test_an_average_starts_at_the_module_follows_it_and_lags_behind():
    module = torch.nn.Linear(1, 1, bias=False)
    module.weight.data.fill_(0.0)
    average = WeightAverage(module, decay=0.9)
    module.weight.data.fill_(1.0)
    average.update(module, step=0)
    assert average.module.weight.item() == pytest.approx(0.9)  # early steps count for more
    average.module.weight.data.fill_(0.0)
    average.update(module, step=10**6)
    assert average.module.weight.item() == pytest.approx(0.1) and not average.module.training


def test_an_average_copies_counters_whole():
    module = torch.nn.BatchNorm1d(2)
    average = WeightAverage(module)
    module.num_batches_tracked += 7
    average.update(module, 0)
    assert average.module.num_batches_tracked == 7


def test_a_run_cut_off_goes_on_with_the_same_weights_step_and_time_spent(tmp_path, clock):
    path = tmp_path / "new" / "net.ckpt"
    first = a_run(path)
    for _ in range(3):
        a_step(first)
        first.advance(dict(loss=1.0), 0.01, warmup=1)
    clock.now_s += 15
    assert first.done == pytest.approx(0.25)
    first.save()
    clock.now_s += 1000  # a night between
    second = a_run(path, seed=9)
    assert second.step == 3 and second.done == pytest.approx(0.25)
    clock.now_s += 30
    assert second.done == pytest.approx(0.75)
    for run in (first, second):
        a_step(run)  # optimizer moments too are the same
    assert torch.equal(first.modules["net"].weight, second.modules["net"].weight)
    assert [p.name for p in path.parent.iterdir()] == ["net.ckpt"]


def test_a_run_tells_mean_losses_and_saves_now_and_then(tmp_path, clock):
    run, told = a_run(tmp_path / "net.ckpt"), []
    for step in range(10):
        clock.now_s += 1
        run.advance(dict(loss=float(step)), dict(net=0.5), lambda *facts: told.append(facts), every=2, warmup=1)
    assert [t[0] for t in told] == [2, 4, 6, 8, 10] and [t[2]["loss"] for t in told] == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert told[-1][1] == pytest.approx(10 / 60) and (tmp_path / "net.ckpt").exists()
    assert run.optimizers["net"].param_groups[0]["lr"] == 0.5
    clock.now_s += 35
    run.advance(dict(loss=0.0), 0.5, warmup=1)
    assert run.optimizers["net"].param_groups[0]["lr"] == pytest.approx(0.5 * 0.5)


def test_a_checkpoint_written_on_a_device_that_is_not_here_is_read_all_the_same(tmp_path, monkeypatch):
    first = a_run(tmp_path / "net.ckpt")
    a_step(first)
    with monkeypatch.context() as there:
        there.setattr(torch.serialization, "location_tag", lambda storage: "xpu:7")
        first.save()
    with pytest.raises((RuntimeError, AssertionError)):
        torch.load(tmp_path / "net.ckpt", weights_only=True)
    assert torch.equal(a_run(tmp_path / "net.ckpt", seed=9).modules["net"].weight, first.modules["net"].weight)


def test_trainings_use_float32_where_only_float16_is_fast_and_otherwise_what_was_chosen(monkeypatch):
    for dtype, wanted in (
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float32, torch.float32),
    ):
        monkeypatch.setattr(
            training_run, "choose_device", lambda text: Placement(torch.device("meta"), dtype, f"{text} it is")
        )
        assert (
            choose_training_device("auto").dtype == wanted
            and choose_training_device("auto").device == torch.device("meta")
            and "auto it is" in choose_training_device("auto").reason
        )


def test_a_checkpoint_of_another_network_is_named_not_half_loaded(tmp_path):
    a_run(tmp_path / "net.ckpt").save()
    with pytest.raises(UsageError, match="another network") as caught:
        a_run(tmp_path / "net.ckpt", width=3)
    assert "--out" in caught.value.hint


@pytest.mark.parametrize("minutes", [0, -1.0, float("nan")])
def test_a_budget_that_is_none_is_refused(tmp_path, minutes):
    with pytest.raises(UsageError, match="budget"):
        a_run(tmp_path / "net.ckpt", minutes=minutes)


def an_unfinished_run(path, minutes=1.0, seed=0):
    """A run, its average, a loss that draws its batch from a generator, and the steps it was asked for."""
    run = a_run(path, minutes, seed=seed)
    net, steps = run.modules["net"], []
    average = WeightAverage(net)
    run.modules["average"] = average.module
    generator = torch.Generator().manual_seed(1 + run.step)

    def compute_losses(step):
        steps.append(step)
        error = ((net(torch.randn(4, 2, generator=generator)) - 3) ** 2).mean()
        return 2 * error, dict(error=error)

    return run, average, compute_losses, steps


@pytest.fixture
def stepping_clock(monkeypatch, clock):
    """A clock that goes on by a second whenever it is read."""

    def monotonic():
        clock.now_s += 1
        return clock.now_s

    monkeypatch.setattr(training_run, "time", SimpleNamespace(monotonic=monotonic))


def test_the_loop_steps_until_the_budget_is_spent_and_gives_the_average(tmp_path, stepping_clock):
    run, average, compute_losses, steps = an_unfinished_run(tmp_path / "net.ckpt")
    reports = []
    before = run.modules["net"].weight.clone()
    trained = fit(run, average, compute_losses, 0.01, lambda *facts: reports.append(facts), every=5)
    assert steps == list(range(run.step)) and run.step > 10 and run.done >= 1
    assert trained is average.module and not torch.equal(trained.weight, before)
    assert not torch.equal(trained.weight, run.modules["net"].weight)
    assert [step for step, *_ in reports] == list(range(5, run.step + 1, 5))
    assert reports[-1][2]["error"] < reports[0][2]["error"]
    assert torch.load(tmp_path / "net.ckpt", weights_only=True)["step"] == run.step


def test_the_loop_clips_gradients_to_norm_one(tmp_path, stepping_clock):
    run, average, _, _ = an_unfinished_run(tmp_path / "net.ckpt", minutes=0.1)
    net, norms = run.modules["net"], []
    step = run.optimizers["net"].step
    run.optimizers["net"].step = lambda: (
        norms.append(torch.cat([p.grad.flatten() for p in net.parameters()]).norm()) or step()
    )
    fit(run, average, lambda step: (1e3 * net(torch.ones(1, 2)).sum(), {}), 0.01)
    assert norms and all(norm.item() == pytest.approx(1, abs=1e-4) for norm in norms)


def test_the_loop_resumes_where_the_checkpoint_ends(tmp_path, stepping_clock):
    run, average, compute_losses, _ = an_unfinished_run(tmp_path / "net.ckpt", minutes=0.5)
    fit(run, average, compute_losses, 0.01)
    again, average, compute_losses, steps = an_unfinished_run(tmp_path / "net.ckpt", minutes=1.0, seed=5)
    assert torch.equal(again.modules["net"].weight, run.modules["net"].weight)
    fit(again, average, compute_losses, 0.01)
    assert steps[0] == run.step and again.step > run.step
