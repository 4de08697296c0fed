"""Rankings as files: what was written is read, and what is none, or another network's, is a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import netslim
from netslim.choosing.ranking import read_ranking, write_ranking
from netslim.errors import ArchiveError, SubnetError

from .nets import IMAGES, Flat, Joined, built


@pytest.fixture(scope="module")
def net() -> netslim.SlimNet:
    return netslim.convert(built(Joined), IMAGES, prove=False)


@pytest.fixture
def document(net: netslim.SlimNet, tmp_path: Path) -> dict[str, Any]:
    write_ranking(netslim.rank(net, "l2"), tmp_path / "ranking.json")
    found: dict[str, Any] = json.loads((tmp_path / "ranking.json").read_text())
    return found


def test_a_file_gives_the_ranking_back(net: netslim.SlimNet, tmp_path: Path) -> None:
    ranking = netslim.rank(net, "l2")
    write_ranking(ranking, tmp_path / "ranking.json")
    found = read_ranking(tmp_path / "ranking.json", net.plan)
    assert dict(found) == dict(ranking)
    assert found.by == "l2"
    assert all(torch.equal(found.importance[name], ranking.importance[name]) for name in ranking)
    assert repr(found) == "<ranking of 2 groups by l2>"


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "[]", "3", "{}", "[" * 100_000, '{"format": "netslim"}', "\ud800", b"\xff\xfe"],
    ids=lambda text: str(text)[:20],
)
def test_what_is_no_ranking(net: netslim.SlimNet, tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "ranking.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ArchiveError, match=r"ranking.json is no ranking"):
        read_ranking(path, net.plan)


def test_files_that_are_not_there(net: netslim.SlimNet, tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(ArchiveError, match="cannot be read"):
            read_ranking(path, net.plan)


def test_the_ranking_of_another_network(document: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "ranking.json"
    with pytest.raises(SubnetError, match="ranks 'a', which is no group of this network"):
        read_ranking(path, netslim.convert(built(Flat), IMAGES, prove=False).plan)


def changed(document: dict[str, Any], group: str, **fields: Any) -> dict[str, Any]:
    groups = {**document["groups"], group: {**document["groups"].get(group, {}), **fields}}
    return {**document, "groups": groups}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: {**d, "version": 2}, ArchiveError, "another version"),
        (lambda d: {**d, "groups": []}, ArchiveError, "is damaged"),
        (lambda d: {**d, "by": 3}, ArchiveError, "is damaged"),
        (lambda d: {**d, "groups": {"a": d["groups"]["a"]}}, SubnetError, "does not rank group b"),
        (lambda d: changed(d, "aa", order=[]), SubnetError, "ranks 'aa', which is no group.*did you mean a"),
        (lambda d: changed(d, "a", order=[0, 1, 2]), SubnetError, "ranks 3 channels of group a"),
        (lambda d: changed(d, "a", order=[0, 1, 2, 2]), SubnetError, "no order of the 4"),
        (lambda d: changed(d, "a", order=[0, 1, 2, 3.0]), ArchiveError, "damaged at group a"),
        (lambda d: changed(d, "a", order=[False, True, 2, 3]), ArchiveError, "damaged at group a"),
        (lambda d: changed(d, "a", order=None), ArchiveError, "damaged at group a"),
        (lambda d: {**d, "groups": {**d["groups"], "a": [0, 1, 2, 3]}}, ArchiveError, "damaged at group a"),
        (lambda d: changed(d, "a", importance=[1.0]), ArchiveError, "damaged at the importances of group a"),
        (lambda d: changed(d, "a", importance=[1, 1, 1, "1"]), ArchiveError, "damaged at the importances"),
        (lambda d: changed(d, "a", importance=[1, 1, 1, float("nan")]), ArchiveError, "damaged at the importances"),
    ],
)
def test_contents_that_do_not_fit(
    net: netslim.SlimNet, document: dict[str, Any], tmp_path: Path, change: Any, error: type[Exception], words: str
) -> None:
    path = tmp_path / "ranking.json"
    path.write_text(json.dumps(change(document)))
    with pytest.raises(error, match=words):
        read_ranking(path, net.plan)
