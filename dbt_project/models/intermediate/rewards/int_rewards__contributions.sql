with outcomes as (
    select * from {{ ref('fct_outcomes') }}
),

weights as (
    select * from {{ ref('stg_nextmove__agent_outcomes') }}
),

own as (
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

steps as (
    select
        decision_id,
        agent,
        customer_id,
        decided_at,
        row_number() over (
            partition by agent, customer_id order by decided_at, decision_id
        ) as step
    from {{ ref('fct_decisions') }}
    where agent in (select agent from weights where sequence_credit > 0)
),

-- What a step of a sequence earned is owed to the steps before it too.
credits as (
    select
        earlier.decision_id,
        own.agent,
        {{ nextmove.hours_between('earlier.decided_at', 'own.occurred_at') }} as delay_hours,
        own.window_hours,
        own.reward * power(own.sequence_credit, later.step - earlier.step) as reward
    from own
    inner join steps as later on own.decision_id = later.decision_id
    inner join steps as earlier
        on later.agent = earlier.agent
        and later.customer_id = earlier.customer_id
        and later.step > earlier.step
    where own.sequence_credit > 0
)

select decision_id, agent, delay_hours, reward, true as is_own
from own
union all
select decision_id, agent, delay_hours, reward, false as is_own
from credits
where delay_hours < window_hours
