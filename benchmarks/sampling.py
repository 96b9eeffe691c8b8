"""What sampling costs and how near it comes: network calls, error and overhead of each solver on a known answer.

Run: python benchmarks/sampling.py
Two tables: error against the closed form for normal data at equal numbers of network calls, and the time that the
sampler itself adds to each call of a network that costs nothing.
"""

import math
import time

import torch

from mouthpiece.engine.sampling import (
    DataAdapter,
    Guidance,
    draw_item_noise,
    make_cosine_levels,
    make_flow_levels,
    sample,
)

MEAN, DEVIATION = 0.7, 0.4
SOLVERS = ("euler", "heun", "ab2", "dpm2m")
CALLS = (4, 8, 16, 32)
# On the core's scale: two items, 250 motion ticks of 64 numbers.
SHAPE = (2, 250, 64)


def make_exact_network(sigma_of_time):
    """Network that knows normal data: its posterior mean, given sigma as a function of time."""

    def network(x, times, conditions):
        alpha, sigma = sigma_of_time(times[0].item())
        gain = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2)
        return MEAN + gain * (x - alpha * MEAN)

    return DataAdapter(network)


def measure_error(solver: str, calls: int, levels_of, sigma_of_time) -> float:
    """Root mean square distance from the exact answer, in deviations of the data."""
    noise = draw_item_noise((1000,), 0, [0]).double()
    steps = calls // 2 if solver == "heun" else calls
    levels = levels_of(steps)
    # A data-predicting network cannot be asked at the very end, so Heun's last step is Euler's.
    levels[-1] = levels[-1]._replace(time=None)
    found = sample(make_exact_network(sigma_of_time), noise, levels, solver=solver)
    return (found - (MEAN + DEVIATION * noise)).square().mean().sqrt().item() / DEVIATION


def measure_overhead_ms(solver: str, guidance: Guidance | None) -> float:
    """Milliseconds a step beside the network, best of five."""
    noise, steps, best = draw_item_noise(SHAPE[1:], 0, list(range(SHAPE[0]))), 16, math.inf
    model = DataAdapter(lambda x, times, conditions: x)
    levels = make_flow_levels(steps)
    levels[-1] = levels[-1]._replace(time=None)
    tree = {"sound": torch.zeros(SHAPE[0], 1)}
    conditions = tree if guidance is None else [tree] * len(guidance.scales)
    for _ in range(5):
        begun_s = time.perf_counter()
        sample(model, noise, levels, conditions, null=tree, guidance=guidance, solver=solver)
        best = min(best, (time.perf_counter() - begun_s) / steps)
    return best * 1000


def main() -> None:
    """Prints both tables."""
    paths = {
        "straight": (make_flow_levels, lambda t: (t, 1 - t)),
        "circle": (make_cosine_levels, lambda t: (math.sin(t * math.pi / 2), math.cos(t * math.pi / 2))),
    }
    print("error in deviations of the data, at equal network calls")
    print(f"{'path':10}{'solver':8}" + "".join(f"{calls:>9}" for calls in CALLS))
    for path, (levels_of, sigma_of_time) in paths.items():
        for solver in SOLVERS:
            errors = [measure_error(solver, calls, levels_of, sigma_of_time) for calls in CALLS]
            print(f"{path:10}{solver:8}" + "".join(f"{error:9.4f}" for error in errors))
    print(f"\nms a step beside the network, {SHAPE}, {torch.get_num_threads()} threads")
    for solver in SOLVERS:
        plain = measure_overhead_ms(solver, None)
        guided = measure_overhead_ms(solver, Guidance((2.0, 1.5), rescale=0.5))
        print(f"{solver:8} plain {plain:7.3f}   two conditions, rescaled {guided:7.3f}")


if __name__ == "__main__":
    main()
