{{ config(materialized='view', tags=['standing']) }}

with ranked as (
    select
        turns.*,
        row_number() over (partition by ticket_id order by turned_at desc, is_solved desc) as recency,
        row_number() over (
            partition by ticket_id, is_solved order by turned_at desc, kind, sentiment
        ) as recency_of_its_kind
    from {{ ref('int_events__ticket_turns') }} as turns
)

select
    ticket_id,
    max(case when is_solved = 0 and recency_of_its_kind = 1 then kind end) as kind,
    max(case when is_solved = 0 and recency_of_its_kind = 1 then sentiment end) as sentiment,
    max(case when recency = 1 then is_solved end) = 0 as is_open,
    max(case when is_solved = 0 then turned_at end) as created_at
from ranked
group by 1
-- An end without a beginning says nothing of who it was.
having max(case when is_solved = 0 then 1 else 0 end) = 1
