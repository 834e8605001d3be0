import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from guardrail.cli.main import app
from guardrail.errors import InputError
from guardrail.simulate import read_run_trajectory, read_trajectory, simulate
from tests.data_wing.repaired_story import drifted_run, judged_by_probes

N, T = 90, 6
GROUPS = ["甲"] * 45 + ["乙"] * 45


def script(tmp_path: Path, fall_at=4, fallen=40, name="passed", **changes) -> Path:
    """A rate that is 1 for every item, of which `fallen` fail from look `fall_at` on."""
    looks = np.ones((T, N))
    looks[fall_at - 1 :, :fallen] = 0.0
    content = {
        "abilities": GROUPS,
        "planned_looks": T,
        "metrics": {
            name: {
                "worse": "lower",
                "margin": 0.03,
                "critical": 0.08,
                "base": np.ones((N, 4)).tolist(),
                "looks": looks.tolist(),
            }
        },
    } | changes
    path = tmp_path / "script.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def call(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["simulate", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.output if code else done.stdout


def test_a_fall_is_seen_when_it_comes_and_the_ladder_halts(tmp_path):
    looks = simulate(read_trajectory(script(tmp_path)))
    assert [look.verdict.level for look in looks] == ["ok", "ok", "ok", "critical"]
    assert looks[-1].action.kind == "halt"
    assert all(look.action.kind == "none" for look in looks[:-1])


def test_verdicts_alone_judge_every_look(tmp_path):
    looks = simulate(read_trajectory(script(tmp_path)), verdicts_only=True)
    assert [look.verdict.level for look in looks] == ["ok"] * 3 + ["critical"] * 3
    assert {look.action for look in looks} == {None}


def test_other_margins_tell_another_story(tmp_path):
    trajectory = read_trajectory(script(tmp_path))
    looks = simulate(trajectory, {"passed": (0.95, 0.99)})
    assert [look.verdict.level for look in looks] == ["ok"] * T
    with pytest.raises(InputError, match="unknown metric `failed`; the trajectory has passed"):
        simulate(trajectory, {"failed": (0.1, 0.2)})
    with pytest.raises(InputError, match=r"0 ≤ margin ≤ critical must hold, got 0.3 and 0.2"):
        simulate(trajectory, {"passed": (0.3, 0.2)})


def test_json_has_a_line_a_stream_and_null_where_nothing_is_known(tmp_path):
    path = script(tmp_path)
    content = json.loads(path.read_text())
    metric = content["metrics"]["passed"]
    metric["base"][45:] = [[None] * 4] * 45
    path.write_text(json.dumps(content), encoding="utf-8")
    looks = json.loads(call(path, "--json"))["looks"]
    assert {"look", "level", "streams", "action"} <= looks[0].keys()
    # Only one group is left, which is the overall stream; the other is told of and not tested.
    stream, empty = looks[0]["streams"]
    assert (empty["n"], empty["harm"], empty["tested"]) == (0, None, False)
    assert {"metric", "group", "harm", "low", "high", "level"} <= stream.keys()
    assert (stream["group"], stream["n"]) == ("overall", 45)
    assert not any(isinstance(v, float) and math.isnan(v) for v in stream.values())


def test_clusters_count_once(tmp_path):
    clustered = [f"模板{i // 9}" for i in range(N)]
    looks = simulate(read_trajectory(script(tmp_path, clusters=clustered)))
    overall = looks[0].verdict.streams[0]
    assert not overall.tested
    assert "10 independent clusters, 20 are needed" in overall.reason
    assert [look.verdict.level for look in looks] == ["untested"] * T


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"abilities": GROUPS[:-1]}, "`base` must be 89 rows"),
        ({"planned_looks": 0}, "`planned_looks`"),
        ({"colour": "red"}, "`colour`"),
        ({"clusters": ["x"]}, "`clusters` must name 90 items, got 1"),
        ({"metrics": {}}, "`metrics`"),
    ],
)
def test_a_script_that_does_not_fit_says_where(tmp_path, change, said):
    output = " ".join(call(script(tmp_path, **change), code=2).split())
    assert said in output


def test_a_file_that_is_no_script_says_so(tmp_path):
    assert "cannot be read" in call(tmp_path / "absent.json", code=2)
    (tmp_path / "broken.json").write_text('{"abilities": [')
    assert "Invalid JSON" in call(tmp_path / "broken.json", code=2)
    assert "METRIC=MARGIN,CRITICAL" in call(script(tmp_path), "--margin", "passed", code=2)


def test_the_table_says_where_it_would_have_halted(tmp_path):
    output = call(script(tmp_path))
    assert "would have halted here" in output
    assert "would have run on" in call(script(tmp_path), "--margin", "passed=0.95,0.99")


def test_a_repeat_of_the_final_look_is_judged_like_the_look_it_repeats(tmp_path):
    trajectory = read_trajectory(script(tmp_path, fall_at=T))
    repeated = replace(
        trajectory,
        steps=[*trajectory.steps, T],
        looks=[*trajectory.looks, trajectory.looks[-1]],
        last_step=T,
    )
    looks = simulate(repeated)
    assert [look.verdict.level for look in looks[-3:]] == ["ok", "critical", "critical"]
    assert [look.action.kind for look in looks[-2:]] == ["repeat_look", "halt"]


def test_a_replay_warns_that_it_leaves_out_a_business_s_own_probes(tmp_path):
    run = drifted_run(tmp_path, {"writing": 0.6})
    ledger = run / "ledger.jsonl"
    text = ledger.read_text(encoding="utf-8")
    ledger.write_text(
        text.replace('"trigger": ', '"planned_looks": 20, "trigger": '), encoding="utf-8"
    )

    def replayed(language: str, *words: str) -> tuple[str, set[str]]:
        """What is warned of, and the metrics of the streams."""
        asked = ["simulate", str(run), "--lang", language, "--json", *words]
        done = CliRunner().invoke(app, asked)
        assert done.exit_code == 0, done.output
        streams = json.loads(done.stdout)["looks"][-1]["streams"]
        return done.stderr, {stream["metric"] for stream in streams}

    warned, known = replayed("en")
    assert warned == ""
    mine = tmp_path / "mine.py"
    judged_by_probes(run, mine)
    warned, seen = replayed("en")
    assert "own probes" in warned
    assert seen == known
    warned, _ = replayed("zh")
    assert "业务自己的探针" in warned
    assert "--probes FILE" in warned
    warned, seen = replayed("en", "--probes", str(mine), "--margin", "presses=0.3,0.5")
    assert warned == ""
    assert seen == known | {"presses"}


def test_probes_belong_to_a_run(tmp_path):
    assert "`--probes` belongs to a run" in call(script(tmp_path), "--probes", "mine.py", code=2)


def test_a_replay_counts_the_business_s_clusters(tmp_path):
    run, mine = drifted_run(tmp_path, {"writing": 0.6}), tmp_path / "mine.py"
    ledger = run / "ledger.jsonl"
    text = ledger.read_text(encoding="utf-8")
    ledger.write_text(text.replace('"trigger": ', '"planned_looks": 20, "trigger": '))
    judged_by_probes(run, mine)
    trajectory = read_run_trajectory(run, [mine])
    assert len(set(trajectory.clusters)) == len(trajectory.groups) // 2
    assert read_run_trajectory(run).probe_files == 1
