{{ config(materialized='view') }}

-- Whenever a ticket was opened or solved, by the help desk's table and by tracked events.
with turns as (
    select
        ticket_id,
        cast(null as text) as user_id,
        cast(null as text) as anonymous_id,
        email,
        kind,
        sentiment,
        created_at as turned_at,
        0 as is_solved
    from {{ ref('stg_support__tickets') }}
    union all
    select
        ticket_id,
        cast(null as text) as user_id,
        cast(null as text) as anonymous_id,
        email,
        kind,
        sentiment,
        coalesce(solved_at, created_at) as turned_at,
        1 as is_solved
    from {{ ref('stg_support__tickets') }}
    where status = 'solved'
    union all
    select
        ticket_id,
        user_id,
        anonymous_id,
        email,
        ticket_kind as kind,
        sentiment,
        occurred_at as turned_at,
        case when event = 'Support Ticket Solved' then 1 else 0 end as is_solved
    from {{ ref('stg_nextmove__tracked_events') }}
    where ticket_id is not null
),

ranked as (
    select
        turns.*,
        row_number() over (partition by ticket_id order by turned_at desc, is_solved desc) as recency,
        row_number() over (
            partition by ticket_id, is_solved order by turned_at desc, kind, sentiment
        ) as recency_of_its_kind
    from turns
    where turned_at <= {{ nextmove.as_of() }}
)

select
    ticket_id,
    max(case when is_solved = 0 then user_id end) as user_id,
    max(case when is_solved = 0 then anonymous_id end) as anonymous_id,
    max(case when is_solved = 0 then email end) as email,
    max(case when is_solved = 0 and recency_of_its_kind = 1 then kind end) as kind,
    max(case when is_solved = 0 and recency_of_its_kind = 1 then sentiment end) as sentiment,
    max(case when recency = 1 then is_solved end) = 0 as is_open,
    max(case when is_solved = 0 then turned_at end) as created_at
from ranked
group by 1
-- An end without a beginning says nothing of who it was.
having max(case when is_solved = 0 then 1 else 0 end) = 1
