{#- Whose group only ever does nothing is held out; what then reaches them, from anybody. -#}
with decisions as (
    select * from {{ ref('fct_decisions') }}
),

quiet_groups as (
    select agent, group_name
    from decisions
    group by 1, 2
    having sum(case when policy = 'fixed' and action = 'no_action' then 0 else 1 end) = 0
),

held_out as (
    select decisions.agent, decisions.customer_id, min(decisions.decided_at) as since
    from decisions
    inner join quiet_groups
        on decisions.agent = quiet_groups.agent and decisions.group_name = quiet_groups.group_name
    group by 1, 2
),

sizes as (
    select agent, count(*) as held_out_customers from held_out group by 1
),

-- A message of ours is known by its receipt, so its delivery event is not counted again.
messages as (
    select
        customer_id,
        vendor,
        coalesce(campaign_id, 'unknown') as campaign,
        false as is_ours,
        occurred_at as sent_at
    from {{ ref('int_events__messages') }}
    where event_type = 'delivered' and decision_id is null
    union all
    select
        customer_id,
        destination as vendor,
        agent || ': ' || action as campaign,
        true as is_ours,
        attempted_at as sent_at
    from {{ ref('fct_deliveries') }}
    where status in ('accepted', 'unknown')
),

reached as (
    select
        held_out.agent,
        messages.vendor,
        messages.campaign,
        messages.is_ours,
        held_out.customer_id
    from held_out
    inner join messages
        on held_out.customer_id = messages.customer_id and messages.sent_at >= held_out.since
),

counted as (
    select
        agent, vendor, campaign, is_ours,
        count(*) as messages, count(distinct customer_id) as customers
    from reached
    group by 1, 2, 3, 4
    union all
    -- A person whom several campaigns reached is one person in the whole.
    select
        agent, 'all' as vendor, 'all' as campaign, null as is_ours,
        count(*) as messages, count(distinct customer_id) as customers
    from reached
    group by 1
)

select
    sizes.agent,
    coalesce(counted.vendor, 'all') as vendor,
    coalesce(counted.campaign, 'all') as campaign,
    counted.is_ours,
    sizes.held_out_customers,
    coalesce(counted.customers, 0) as reached_customers,
    coalesce(counted.messages, 0) as messages,
    cast(coalesce(counted.customers, 0) as double precision) / sizes.held_out_customers as reached_share
from sizes
left join counted on sizes.agent = counted.agent
