with rewards as (
    select * from {{ ref('fct_decision_rewards') }}
),

totals as (
    select
        agent,
        group_name,
        count(*) as decisions,
        count(distinct customer_id) as customers,
        sum(case when is_closed then 1 else 0 end) as closed_decisions,
        cast(sum(case when is_closed then {{ nextmove.exact('reward') }} else 0 end) as double precision)
            as closed_reward
    from rewards
    group by 1, 2
)

select
    *,
    closed_reward / nullif(closed_decisions, 0) as reward_per_decision
from totals
