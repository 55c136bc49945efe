with ranked as (
    select
        customer_id,
        agent as last_agent,
        action as last_action,
        channel as last_channel,
        incentive as last_incentive,
        decided_at as last_decision_at,
        row_number() over (
            partition by customer_id order by decided_at desc, decision_id desc
        ) as recency
    from {{ ref('fct_decisions') }}
)

select customer_id, last_agent, last_action, last_channel, last_incentive, last_decision_at
from ranked
where recency = 1
