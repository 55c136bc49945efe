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
)

select * from turns where turned_at <= {{ nextmove.as_of() }}
