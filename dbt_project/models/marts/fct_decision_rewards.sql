{#-
  Why a message did not leave, where it had nothing to do with the customer: we stopped it, or were
  too late (the hour and the day for which it was decided were fine). Every other reason hangs on
  what the customer did or was since the decision, and to leave those decisions out would compare
  who was left with everybody who was sent nothing.
-#}
{% set ours = [
    'kill_switch', 'stale_profile', 'budget', 'paused', 'frozen', 'overridden', 'not_approved',
    'expired', 'quiet_hours', 'legal_window', 'blackout', 'unknown_agent', 'unknown_person', 'erased'
] %}

with windows as (
    select agent, max(window_hours) as window_hours
    from {{ ref('stg_nextmove__agent_outcomes') }}
    -- What weighs nothing is measured only, and keeps no decision open.
    where weight <> 0
    group by 1
),

contributions as (
    select * from {{ ref('int_rewards__contributions') }}
),

rewards as (
    select
        decision_id,
        sum({{ nextmove.exact('case when is_own then reward else 0 end') }}) as reward,
        sum({{ nextmove.exact('case when is_cost then 0 else reward end') }}) as credited_reward,
        sum({{ nextmove.exact('case when is_cost then reward else 0 end') }}) as cost
    from contributions
    group by 1
),

-- Sent, or kept back by what the customer had become: what the choice led to is known.
settled as (
    select distinct decision_id
    from {{ ref('fct_deliveries') }}
    where
        status in ('accepted', 'unknown')
        or (status = 'skipped' and reason not in ('{{ ours | join("', '") }}'))
),

decisions as (
    select
        decisions.*,
        cast(coalesce(rewards.reward, 0) as double precision) as reward,
        cast(coalesce(rewards.credited_reward, 0) as double precision) as credited_reward,
        cast(coalesce(rewards.cost, 0) as double precision) as cost,
        coalesce(windows.window_hours, 0) as window_hours,
        {{ nextmove.starts_at('decisions') }} as starts_at,
        {{ nextmove.hours_between(nextmove.starts_at('decisions'), nextmove.as_of()) }} as age_hours,
        decisions.group_name in ('treatment', 'random')
        and (
            decisions.action = 'no_action'
            -- Whoever asked for a decision to carry it out himself has done so.
            or coalesce(decisions.carried_out_by, 'delivery') = 'caller'
            or settled.decision_id is not null
        ) as is_learnable
    from {{ ref('fct_decisions') }} as decisions
    left join windows on decisions.agent = windows.agent
    left join rewards on decisions.decision_id = rewards.decision_id
    left join settled on decisions.decision_id = settled.decision_id
),

-- The delays of everything that closed decisions have earned, and the ages of the open ones,
-- on one line: the running sum at an age is what had arrived by then.
timeline as (
    select
        contributions.agent,
        contributions.delay_hours as hours,
        {{ nextmove.exact('abs(contributions.reward)') }} as arrived,
        null as open_id
    from contributions
    inner join decisions on contributions.decision_id = decisions.decision_id
    where decisions.age_hours >= decisions.window_hours and not contributions.is_cost
    union all
    select agent, age_hours as hours, 0 as arrived, decision_id as open_id
    from decisions
    where age_hours < window_hours
),

curve as (
    select
        open_id,
        cast(sum(arrived) over (partition by agent order by hours) as double precision) as arrived,
        cast(sum(arrived) over (partition by agent) as double precision) as arrived_in_the_end
    from timeline
),

shares as (
    select
        open_id as decision_id,
        arrived / arrived_in_the_end as share
    from curve
    where open_id is not null and arrived_in_the_end > 0
),

weighed as (
    select
        decisions.*,
        -- Who was decided for together is closed together, or the first to be closed would be
        -- those to whom nothing was sent, and nobody could be compared.
        max(decisions.starts_at) over (
            partition by decisions.agent, decisions.decided_at
        ) as last_starts_at,
        cast(case
            when decisions.age_hours >= decisions.window_hours then 1
            -- Its message waits; of an agent that is gone, the window is 0.
            when decisions.age_hours < 0 then 0
            else coalesce(shares.share, decisions.age_hours / decisions.window_hours)
        end as double precision) as delay_weight
    from decisions
    left join shares on decisions.decision_id = shares.decision_id
)

select
    decision_id,
    agent,
    customer_id,
    group_name,
    action,
    policy_version,
    decided_at,
    starts_at,
    reward,
    -- Of an open decision as much of the cost counts as of all else: the share that has arrived.
    credited_reward + cost * delay_weight as credited_reward,
    {{ dbt.dateadd('hour', 'window_hours', 'last_starts_at') }} as closes_at,
    {{ dbt.dateadd('hour', 'window_hours', 'last_starts_at') }} <= {{ nextmove.as_of() }} as is_closed,
    age_hours,
    delay_weight,
    is_learnable
from weighed
