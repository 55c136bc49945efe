{#- Whether somebody stays is asked at the same age of every decision, so that actions compare. -#}
{%- set starts_at -%}
case
            when windows.event = 'retained' then decisions.decided_at
            else {{ nextmove.starts_at('decisions') }}
        end
{%- endset -%}

with windows as (
    select agent, event, max(window_hours) as window_hours
    from {{ ref('stg_nextmove__agent_outcomes') }}
    where spent_on is null
    group by 1, 2
),

awaited as (
    select
        decisions.decision_id,
        decisions.agent,
        decisions.customer_id,
        {{ starts_at }} as starts_at,
        windows.event,
        {{ dbt.dateadd('minute', '30 * windows.window_hours', starts_at) }} as middle_at,
        {{ dbt.dateadd('hour', 'windows.window_hours', starts_at) }} as closes_at
    from {{ ref('fct_decisions') }} as decisions
    inner join windows on decisions.agent = windows.agent
),

events as (
    select * from {{ ref('int_events__outcomes') }}
),

-- Engagement with a message of ours belongs to the decision that sent it, or to none.
carried as (
    select
        awaited.*, events.event_id, events.occurred_at, events.value, events.is_machine, 1 as choice
    from events
    inner join awaited
        on events.decision_id = awaited.decision_id
        and events.event = awaited.event
        and events.occurred_at >= awaited.starts_at
        and events.occurred_at < awaited.closes_at
),

-- Everything else belongs to the latest decision whose window it falls into.
followed as (
    select
        awaited.*,
        events.event_id,
        events.occurred_at,
        events.value,
        events.is_machine,
        row_number() over (
            partition by events.event, events.event_id, events.customer_id
            order by awaited.starts_at desc, awaited.decision_id desc
        ) as choice
    from events
    inner join awaited
        on events.customer_id = awaited.customer_id
        and events.event = awaited.event
        and events.occurred_at >= awaited.starts_at
        and events.occurred_at < awaited.closes_at
    where events.decision_id is null
),

-- Who is active in the second half of the window was retained: after each decision that waits to
-- see it, not after the latest only.
retained as (
    select
        awaited.*,
        awaited.decision_id as event_id,
        min(events.occurred_at) as occurred_at,
        cast(1 as double precision) as value,
        false as is_machine,
        1 as choice
    from events
    inner join awaited
        on events.customer_id = awaited.customer_id
        and events.occurred_at >= awaited.middle_at
        and events.occurred_at < awaited.closes_at
    where awaited.event = 'retained' and events.event in ('visit', 'order', 'feature_use')
    group by 1, 2, 3, 4, 5, 6, 7
),

attributed as (
    select * from carried
    union all
    select * from followed where choice = 1
    union all
    select * from retained
)

select
    decision_id,
    agent,
    customer_id,
    event,
    event_id,
    occurred_at,
    {{ nextmove.hours_between('starts_at', 'occurred_at') }} as delay_hours,
    value,
    is_machine
from attributed
