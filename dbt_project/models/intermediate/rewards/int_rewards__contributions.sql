with outcomes as (
    select * from {{ ref('fct_outcomes') }}
),

weights as (
    select * from {{ ref('stg_nextmove__agent_outcomes') }}
),

earned as (
    select
        outcomes.decision_id,
        outcomes.agent,
        outcomes.event,
        outcomes.occurred_at,
        outcomes.delay_hours,
        weights.window_hours,
        weights.sequence_credit,
        weights.weight * case when weights.per = 'dollar' then outcomes.value else 1 end as reward
    from outcomes
    inner join weights
        on outcomes.agent = weights.agent
        and outcomes.event = weights.event
        and outcomes.delay_hours < weights.window_hours
    -- Mail scanners open and click too.
    where not (outcomes.is_machine and outcomes.event in ('open', 'click'))
),

decisions as (
    select * from {{ ref('fct_decisions') }}
),

-- A message that may have left has been paid for.
sends as (
    select decision_id, min(attempted_at) as occurred_at
    from {{ ref('fct_deliveries') }}
    where status in ('accepted', 'unknown')
    group by 1
    union all
    select decision_id, {{ nextmove.starts_at('decisions') }} as occurred_at
    from decisions
    where carried_out_by = 'caller' and action <> 'no_action'
),

messages as (
    select
        decisions.decision_id,
        decisions.agent,
        weights.event,
        sends.occurred_at,
        {{ nextmove.hours_between(nextmove.starts_at('decisions'), 'sends.occurred_at') }} as delay_hours,
        weights.window_hours,
        weights.sequence_credit,
        weights.weight as reward
    from sends
    inner join decisions on sends.decision_id = decisions.decision_id
    inner join weights
        on decisions.agent = weights.agent
        and weights.event = 'message'
        and decisions.channel = weights.spent_on
),

-- What was given away costs something when it is used.
incentives as (
    select
        earned.decision_id,
        earned.agent,
        weights.event,
        earned.occurred_at,
        earned.delay_hours,
        weights.window_hours,
        weights.sequence_credit,
        weights.weight as reward
    from earned
    inner join decisions on earned.decision_id = decisions.decision_id
    inner join weights
        on decisions.agent = weights.agent
        and weights.event = 'incentive'
        and decisions.incentive = weights.spent_on
        and earned.delay_hours < weights.window_hours
    where earned.event = 'order'
),

own as (
    select * from earned
    union all
    select * from messages
    union all
    select * from incentives
),

steps as (
    select
        decision_id,
        agent,
        customer_id,
        {{ nextmove.starts_at('decisions') }} as starts_at,
        row_number() over (
            partition by agent, customer_id
            order by {{ nextmove.starts_at('decisions') }}, decision_id
        ) as step
    from decisions
    where agent in (select agent from weights where sequence_credit > 0)
),

-- What a step of a sequence earned is owed to the steps before it too.
credits as (
    select
        earlier.decision_id,
        own.agent,
        {{ nextmove.hours_between('earlier.starts_at', 'own.occurred_at') }} as delay_hours,
        own.window_hours,
        own.reward * power(own.sequence_credit, later.step - earlier.step) as reward
    from own
    inner join steps as later on own.decision_id = later.decision_id
    inner join steps as earlier
        on later.agent = earlier.agent
        and later.customer_id = earlier.customer_id
        and later.step > earlier.step
    -- That somebody was retained counts for the earlier steps already.
    where own.sequence_credit > 0 and own.event <> 'retained'
)

-- What a message costs is known at once: it waits for nothing.
select decision_id, agent, delay_hours, reward, true as is_own, event = 'message' as is_cost
from own
union all
select decision_id, agent, delay_hours, reward, false as is_own, false as is_cost
from credits
where delay_hours < window_hours
