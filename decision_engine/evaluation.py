"""evaluate over the warehouse: is the experiment sound, what is the lift, what causes it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from connectors.base import Warehouse
from decision_engine.causes import Retention, effects_of, retention_of
from decision_engine.drift import Drift, drift, scores_of
from decision_engine.epochs import read_state
from decision_engine.errors import StepError
from decision_engine.evaluation_log import AgentLog, fit_of, read_log
from decision_engine.experiment import read_experiment
from decision_engine.fairness import Share, fairness_of
from decision_engine.guardrail_prices import prices_of
from decision_engine.held_out import chances_of
from decision_engine.lift import Group, Lift
from decision_engine.logged import REWARDS
from decision_engine.pausing import withouts_of
from decision_engine.progress import Progress, progress
from decision_engine.reward_model import CrossFit
from decision_engine.sample_ratio import SampleRatio
from decision_engine.types import TREATMENT, Ints
from decision_engine.uplift import Effect
from decision_engine.waterfall import Randomised, Waterfall, waterfall
from decision_engine.weak import Without
from decision_engine.workspace import Workspace

CONTAMINATION = "rpt_holdout_contamination"


@dataclass(frozen=True)
class Contamination:
    """Messages to people held out: of one campaign, or of all (`campaign` is all)."""

    vendor: str
    campaign: str
    is_ours: bool | None
    held_out_customers: int
    reached_customers: int
    messages: int
    reached_share: float


@dataclass(frozen=True)
class AgentEvaluation:
    """One agent's closed decisions, judged; keys are names of groups and actions.

    `lifts` of the treatment against each other group, per customer and by intention to treat,
    adjusted for what was known at the customer's first decision. `prices` are what waived
    guardrails cost. `machine_events` are opens and clicks of programs, which count for nothing.
    `moved` customers were in more than one group; they count where they were first.
    `fairness` says for each value of a segment how much its people get, as a share of what others
    get. `retention` is there when the agent names it.

    The others speak of today's actions, so by decisions among these; `left_out` were made with
    other features, or with actions that the agent has lost since. `effects` and `drifts` are per
    decision: the ones from all decisions of known chances, the others from the groups that choose
    at random. `progress` says whether anything is left to gain from the actions that exist;
    `withouts`, by creative, what would become of the reward without it, the weakest first.
    """

    decisions: int
    left_out: int
    groups: dict[str, Group]
    sizes: SampleRatio | None
    lifts: dict[str, Lift]
    contamination: tuple[Contamination, ...]
    prices: dict[str, Lift]
    machine_events: int
    fairness: tuple[Share, ...]
    moved: int = 0
    retention: Retention | None = None
    waterfall: Waterfall | None = None
    effects: dict[str, Effect] = field(default_factory=dict)
    drifts: dict[str, Drift] = field(default_factory=dict)
    progress: Progress | None = None
    withouts: dict[str, Without] = field(default_factory=dict)


def evaluate_all(workspace: Workspace) -> dict[str, AgentEvaluation | None]:
    """Every agent's evaluation; None for one without closed decisions. StepError before build."""
    with workspace.warehouse_to_read() as warehouse:
        for model in (REWARDS, CONTAMINATION):
            if warehouse.columns(workspace.model(model)) is None:
                raise StepError(
                    f"{workspace.model(model)} does not exist; run `nextmove build` first"
                )
        return {name: _agent(workspace, warehouse, name) for name in sorted(workspace.agents)}


def _agent(workspace: Workspace, warehouse: Warehouse, name: str) -> AgentEvaluation | None:
    experiment = read_experiment(workspace, warehouse, name)
    if experiment is None:
        return None
    found = read_log(workspace, warehouse, name)
    decisions = int(experiment.decisions.sum())
    by_lot = found.of_kind("uniform") if found else []
    evaluation = AgentEvaluation(
        decisions=decisions,
        left_out=decisions - (len(found.log) if found else 0),
        groups=experiment.means(),
        sizes=experiment.sizes(),
        lifts=experiment.lifts(),
        contamination=contamination_of(workspace, warehouse, name),
        prices=prices_of(workspace, warehouse, name),
        machine_events=_machine_events(workspace, warehouse, name),
        fairness=fairness_of(workspace, warehouse, name, TREATMENT, by_lot),
        moved=experiment.moved,
        retention=retention_of(workspace, warehouse, name),
    )
    if found is None:
        return evaluation
    random = found.of_group(*by_lot)
    fit = fit_of(found, random)
    now = datetime.now(UTC).replace(tzinfo=None)
    return replace(
        evaluation,
        waterfall=waterfall_of(found, random, fit, content_of(workspace, name)),
        effects=effects_of(found),
        drifts=drifts_of(found, random, fit),
        progress=progress_of(workspace, warehouse, name, found, random, fit),
        withouts=withouts_of(workspace, warehouse, name, now, found, random, fit),
    )


def _machine_events(workspace: Workspace, warehouse: Warehouse, agent: str) -> int:
    table = workspace.model("fct_outcomes")
    if warehouse.columns(table) is None:
        return 0
    ((count,),) = warehouse.rows(
        f"select count(*) from {table} where agent = ? and is_machine", [agent]
    )
    return int(count)


def contamination_of(
    workspace: Workspace, warehouse: Warehouse, agent: str
) -> tuple[Contamination, ...]:
    """All sends of any vendor to the agent's holdout: the whole first, then by campaign."""
    rows = warehouse.rows(
        "select vendor, campaign, is_ours, held_out_customers, reached_customers, messages,"
        f" reached_share from {workspace.model(CONTAMINATION)} where agent = ?"
        " order by case when campaign = 'all' then 0 else 1 end, reached_customers desc,"
        " vendor, campaign",
        [agent],
    )
    return tuple(Contamination(*row) for row in rows)


def content_of(workspace: Workspace, agent: str) -> Ints:
    """A code (k,) for what each action says; actions that differ in their hour share one."""
    said = [(a.channel, a.creative, a.incentive) for a in workspace.catalog(agent).actions]
    codes = {content: i for i, content in enumerate(dict.fromkeys(said))}
    return np.array([codes[content] for content in said], dtype=np.int64)


def drifts_of(found: AgentLog, rows: Ints, fit: CrossFit | None) -> dict[str, Drift]:
    """For each action whether what it earns has changed."""
    if fit is None:
        return {}

    def test(action: int) -> Drift:
        at = np.flatnonzero(found.eligible[rows, action])
        log, q = found.log.take(rows[at]), fit.predictions[at]
        return drift(scores_of(log, q, action), found.day[rows[at]])

    possible = np.flatnonzero(found.eligible[rows].any(axis=0)).tolist()
    return {found.actions[a]: test(a) for a in possible}


def progress_of(
    workspace: Workspace,
    warehouse: Warehouse,
    name: str,
    found: AgentLog,
    rows: Ints,
    fit: CrossFit | None,
) -> Progress | None:
    """Whether the treatment, as it is now, is as good as these actions allow."""
    treated = found.of_group(TREATMENT)
    if fit is None or not len(treated):
        return None
    state = read_state(workspace, warehouse, name)
    ran = chances_of(workspace, name, state, found.x[rows], found.eligible[rows])
    days = int(found.day[treated].max() - found.day[treated].min()) + 1
    return progress(
        found.log.take(rows),
        found.eligible[rows],
        fit.predictions,
        ran,
        float(found.log.reward[treated].mean()),
        len(treated) / days,
    )


def waterfall_of(
    found: AgentLog, rows: Ints, fit: CrossFit | None, content: Ints
) -> Waterfall | None:
    """The parts of the lift over the holdout; None without the three groups it takes."""
    # The lot's decisions alone say nothing of the groups of that time.
    whole = found.is_whole
    quiet = [g for g in found.of_kind("fixed") if _does_nothing(found, g)]
    held, treated = (at[whole[at]] for at in (found.of_group(*quiet), found.of_group(TREATMENT)))
    drawn = whole[rows]
    if fit is None or not len(held) or not len(treated) or not drawn.any():
        return None
    return waterfall(
        Randomised(
            holdout=found.log.take(held),
            random=found.log.take(rows[drawn]),
            treatment=found.log.take(treated),
            eligible=found.eligible[rows[drawn]],
            predictions=fit.predictions[drawn],
            content=content,
        )
    )


def _does_nothing(found: AgentLog, group: str) -> bool:
    return not found.log.action[found.of_group(group)].any()
