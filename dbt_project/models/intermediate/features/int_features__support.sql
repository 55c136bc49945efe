with complaints as (
    select *
    from {{ ref('stg_support__tickets') }}
    where kind = 'complaint' and created_at <= {{ nextmove.as_of() }}
),

identity as (
    select * from {{ ref('int_identity__map') }}
),

resolved as (
    {{ nextmove.with_customer('complaints', ['email']) }}
),

ranked as (
    select
        resolved.*,
        -- A ticket solved after as_of was still open then.
        case when status <> 'solved' or solved_at > {{ nextmove.as_of() }} then 1 else 0 end as is_open,
        row_number() over (
            partition by customer_id order by created_at desc, ticket_id desc
        ) as recency
    from resolved
)

select
    customer_id,
    max(is_open) as open_complaints,
    max(created_at) as last_complaint_at,
    max(case when recency = 1 then sentiment end) as complaint_sentiment
from ranked
group by 1
