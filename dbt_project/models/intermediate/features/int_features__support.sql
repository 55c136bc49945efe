{{ config(tags=['standing']) }}

with ranked as (
    select
        complaints.*,
        row_number() over (
            partition by customer_id order by created_at desc, {{ nextmove.in_byte_order('ticket_id') }} desc
        ) as recency
    from {{ ref('int_events__complaints') }} as complaints
)

select
    customer_id,
    max(case when is_open then 1 else 0 end) as open_complaints,
    max(created_at) as last_complaint_at,
    max(case when recency = 1 then sentiment end) as complaint_sentiment
from ranked
group by 1
