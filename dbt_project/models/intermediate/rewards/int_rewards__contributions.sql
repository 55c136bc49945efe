with outcomes as (
    select * from {{ ref('fct_outcomes') }}
),

weights as (
    select * from {{ ref('stg_nextmove__agent_outcomes') }}
)

select
    outcomes.decision_id,
    outcomes.agent,
    outcomes.delay_hours,
    weights.weight * case when weights.per = 'dollar' then outcomes.value else 1 end as reward
from outcomes
inner join weights
    on outcomes.agent = weights.agent
    and outcomes.event = weights.event
    and outcomes.delay_hours < weights.window_hours
-- Mail scanners open and click too.
where not (outcomes.is_machine and outcomes.event in ('open', 'click'))
