with rewards as (
    select * from {{ ref('fct_decision_rewards') }}
)

select
    agent,
    group_name,
    count(*) as decisions,
    count(distinct customer_id) as customers,
    sum(case when is_closed then 1 else 0 end) as closed_decisions,
    sum(case when is_closed then reward else 0 end) as closed_reward,
    avg(case when is_closed then reward end) as reward_per_decision
from rewards
group by 1, 2
