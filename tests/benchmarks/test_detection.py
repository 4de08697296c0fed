"""What benchmarks/detection.py makes of its runs, without running any."""

from __future__ import annotations

from typing import Any

import click
import detection
import pytest


def row(method: str, seed: int, ap: float | None, seconds: float, **more: Any) -> dict[str, Any]:
    common = {"images": 100, "epochs": 12, "trained": 12, "ap50": 50.0, "mask_ap": None}
    return common | {"method": method, "seed": seed, "ap": ap, "seconds": seconds} | more


ROWS = [row("plain", 0, 20.0, 40), row("plain", 1, 30.0, 60), row("gradaug-truth", 0, 31.5, 130)]


def test_methods_differ_in_what_they_are_called_for() -> None:
    found = {method: detection.config_of(method, 100, 1, 12) for method in detection.METHODS}
    assert {config.mode for name, config in found.items() if "plain" in name} == {"none"}
    assert [found[name].alpha for name in ("scales-alone", "gradaug-truth", "gradaug-full")] == [1.0, 0.8, 0.8]
    assert [found[name].subnet_target for name in ("gradaug-truth", "gradaug-full")] == ["truth", "full"]
    assert len({config.resolutions for name, config in found.items() if "plain" not in name}) == 1
    assert {config.data for config in found.values()} == {"scenes:100"}


def test_plain_training_goes_on_as_long_as_gradaug_took() -> None:
    others = [row("plain", 0, 1.0, 400, images=400), row("plain", 0, 1.0, 7, epochs=2)]
    assert detection.longer([*others, *ROWS], 100, 12) == 39  # 12 * 130 / 40
    assert detection.longer([ROWS[0], row("gradaug-truth", 0, 1.0, 1)], 100, 12) == 12
    with pytest.raises(click.UsageError, match="leave --methods out"):
        detection.longer(ROWS[:2], 100, 12)


def test_tables_have_means_and_deviations() -> None:
    head, plain, gradaug = detection.lines(ROWS)
    assert head == ["method", "runs", "epochs", "AP", "AP50", "mask AP", "CPU s"]
    assert plain == ["plain", "2", "12", "25.0 ± 7.1", "50.0 ± 0.0", "0.0 ± 0.0", "50 ± 14"]
    assert gradaug == ["gradaug-truth", "1", "12", "31.5", "50.0", "0.0", "130"]
    written = detection.markdown(ROWS, [100], 12)
    assert "python benchmarks/detection.py --images 100 --seeds 2 --epochs 12" in written
    assert "| gradaug-truth | 1 | 12 | 31.5 |" in written
